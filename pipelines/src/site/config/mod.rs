//! `site.toml`: the cameras of a site, what looks at them, and who is told. Every mistake is told at once, with its place;
//! so are those of the pipeline files that it names.

mod camera;
mod file;
mod limits;
pub(crate) mod named;
mod source;

pub use camera::CameraSpec;
pub(in crate::site) use camera::is_camera_name;
pub use file::SiteFile;
pub use limits::SiteLimits;
