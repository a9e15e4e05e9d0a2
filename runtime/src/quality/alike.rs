//! That two pictures can be compared sample by sample.

use crate::{Error, Image, Result};

/// Refuses two pictures that differ in size or format, with both, and two that hold no pixel.
pub(super) fn check(a: &Image, b: &Image) -> Result<()> {
    if !alike(a, b) {
        return Err(Error::bad_input(format!(
            "pictures of {} and {} cannot be compared: size and format must be the same",
            described(a),
            described(b)
        )));
    }
    if a.data().is_empty() {
        return Err(Error::bad_input(format!("pictures of {} hold no pixel to compare", described(a))));
    }
    Ok(())
}

/// Whether two pictures have one size and one format.
pub(super) fn alike(a: &Image, b: &Image) -> bool {
    (a.width(), a.height(), a.format()) == (b.width(), b.height(), b.format())
}

/// Size and format, for messages.
fn described(image: &Image) -> String {
    format!("{}×{} {:?}", image.width(), image.height(), image.format())
}
