//! H.264 decoding with Cisco's OpenH264, which is built into the program.

use openh264::{
    OpenH264API,
    decoder::{DecodedYUV, Decoder, DecoderConfig, Flush},
    formats::YUVSource,
};
use tapetum_runtime::{Error, Image, PixelFormat, Result};

/// A decoder of one stream.
pub(in crate::source) struct H264 {
    decoder: Decoder,
    /// Pictures that the decoder still held at the end, in their order.
    rest: std::vec::IntoIter<Image>,
    flushed: bool,
}

impl H264 {
    pub(in crate::source) fn new() -> Result<Self> {
        // Flushing after every access unit breaks streams with B-frames: their pictures come later.
        let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        let decoder = Decoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(|e| Error::internal(format!("OpenH264 does not start: {e}")))?;
        Ok(Self { decoder, rest: Vec::new().into_iter(), flushed: false })
    }

    /// Feeds one access unit in Annex B form. True if that completed a picture, which is then in `out`.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] if it cannot be decoded.
    pub(in crate::source) fn feed(&mut self, unit: &[u8], out: &mut Image) -> Result<bool> {
        match self.decoder.decode(unit) {
            Ok(Some(picture)) => {
                convert(&picture, out);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(e) => Err(Error::bad_file(format!("undecodable H.264 data: {e}"))),
        }
    }

    /// After the last access unit: the next picture that the decoder still held. False if there is none.
    ///
    /// # Errors
    /// As [`H264::feed`].
    pub(in crate::source) fn flush(&mut self, out: &mut Image) -> Result<bool> {
        if !self.flushed {
            self.flushed = true;
            let rest = self.decoder.flush_remaining();
            let rest = rest.map_err(|e| Error::bad_file(format!("undecodable H.264 data: {e}")))?;
            let images = rest.iter().map(|picture| {
                let mut image = Image::default();
                convert(picture, &mut image);
                image
            });
            self.rest = images.collect::<Vec<_>>().into_iter();
        }
        match self.rest.next() {
            Some(image) => {
                out.copy_from(&image);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// BT.601, limited range: what decoders assume of streams that do not say otherwise.
fn convert(picture: &DecodedYUV<'_>, out: &mut Image) {
    let (width, height) = picture.dimensions();
    picture.write_rgb8(out.reset(width, height, PixelFormat::Rgb8));
}

/// OpenH264 decodes 8-bit 4:2:0 only.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::Unsupported`] with the name of the profile.
pub(in crate::source) fn refuse_profile(profile: u8) -> Result<()> {
    let name = match profile {
        110 => "High 10 (10 bits)",
        122 => "High 4:2:2",
        44 | 244 => "High 4:4:4",
        _ => return Ok(()),
    };
    Err(Error::unsupported(format!(
        "H.264 of the profile {name}; this build decodes 8-bit 4:2:0 (Baseline, Main, High)"
    )))
}
