#!/usr/bin/python3
"""An RTSP server for the tests, by GStreamer's gst-rtsp-server.

Mounts: /clip (a file's H.264 as it is), /pattern (H.264, a key frame every second), /mjpeg, /resize (H.264 that changes its
size every two seconds). Prints "ready PORT" when it listens. Debian: python3-gi gir1.2-gst-rtsp-server-1.0
gstreamer1.0-plugins-{base,good,bad,ugly}.
"""
import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

SIZES = [(320, 240), (192, 144)]
X264 = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=800"
PAY = "rtph264pay name=pay0 pt=96 config-interval=-1"


def caps(width, height):
    return f"video/x-raw,format=I420,width={width},height={height},framerate=15/1"


def mounts(clip):
    live = "videotestsrc is-live=true pattern=ball"
    found = {
        "/pattern": f"( {live} ! {caps(320, 240)} ! {X264} ! {PAY} )",
        "/mjpeg": f"( {live} ! {caps(320, 240)} ! jpegenc ! rtpjpegpay name=pay0 pt=26 )",
        "/resize": f"( {live} ! capsfilter name=size caps={caps(*SIZES[0])} ! {X264} ! {PAY} )",
    }
    if clip:
        found["/clip"] = f'( filesrc location="{clip}" ! qtdemux ! h264parse ! {PAY} )'
    return found


def change_size(_factory, media):
    size = media.get_element().get_by_name("size")
    rounds = [0]

    def change():
        rounds[0] += 1
        size.set_property("caps", Gst.Caps.from_string(caps(*SIZES[rounds[0] % 2])))
        return media.get_status() != GstRtspServer.RTSPMediaStatus.UNPREPARED

    GLib.timeout_add(2000, change)


def protect(server, user, password, basic):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    if basic:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    server.set_auth(auth)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--clip", help="an MP4 file with H.264")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--basic", action="store_true", help="basic instead of digest authentication")
    args = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(args.port))
    for path, launch in mounts(args.clip).items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(launch)
        if path == "/resize":
            factory.connect("media-configure", change_size)
        if args.user:
            factory.add_role_from_structure(
                Gst.Structure.from_string("viewer, media.factory.access=true, media.factory.construct=true")[0]
            )
        server.get_mount_points().add_factory(path, factory)
    if args.user:
        protect(server, args.user, args.password, args.basic)
    if server.attach(None) == 0:
        raise SystemExit("the port is taken")
    print("ready", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
