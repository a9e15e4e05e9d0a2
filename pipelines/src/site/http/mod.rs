//! A site over HTTP: health, metrics, an API, and a page to look at. On loopback, unless the configuration gives a token and TLS.
//!
//! | part | what it does |
//! |---|---|
//! | [`HttpSpec`] | what the configuration says of it |
//! | [`Site`] | what it asks of the daemon |
//! | [`serve`], [`serve_beside`] | binds, serves on a thread of its own; another one in its place without a gap |
//! | `patient` | a connection that gives up on a peer that does not read |
//! | `guard` | what every request passes: host, origin, who, how large |
//! | `door`, `token` | who may look: token, sessions, failed tries |
//! | `api`, `media`, `metrics`, `live`, `page` | what is answered |

mod api;
mod door;
mod guard;
mod host;
mod live;
mod media;
mod metrics;
mod page;
mod patient;
mod place;
mod problem;
mod server;
mod spec;
mod tls;
mod token;

pub use place::Site;
pub use server::{Serving, serve, serve_beside};
pub use spec::{HttpSpec, TlsFiles, TokenFrom};
