//! A site over HTTP, on real sockets. The site itself is made here: what it tells is known to the last digit.

#[path = "../sinks/schema.rs"]
mod schema;

mod api;
mod certificate;
mod chromium;
mod door;
mod hostile;
mod live;
mod made;
mod metrics;
mod wire;
