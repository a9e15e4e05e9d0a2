//! OpenCV's `INTER_NEAREST`.

use super::view::{Target, View};

/// Takes pixel `floor(x · from / to)`, where the factor is `1 / (to / from)` in `f64`, as OpenCV has it: in rare
/// sizes that is another pixel than the exact quotient's.
#[derive(Default)]
pub(super) struct Nearest {
    /// Byte offset in the source row for each column.
    columns: Vec<usize>,
    rows: Vec<usize>,
}

impl Nearest {
    pub(super) fn plan(&mut self, from: (usize, usize), channels: usize, target: &Target) {
        let window = target.window;
        axis(&mut self.columns, from.0, target.size.0, window.x, window.width, channels);
        axis(&mut self.rows, from.1, target.size.1, window.y, window.height, 1);
    }

    pub(super) fn row(&self, view: &View, y: usize, planes: &mut [u8]) {
        let row = view.row(self.rows[y]);
        for (c, plane) in planes.chunks_exact_mut(self.columns.len()).enumerate() {
            for (to, &at) in plane.iter_mut().zip(&self.columns) {
                *to = row[at + c];
            }
        }
    }
}

fn axis(to: &mut Vec<usize>, from: usize, size: usize, start: usize, len: usize, step: usize) {
    let factor = 1.0 / (size as f64 / from as f64);
    to.clear();
    to.extend((start..start + len).map(|v| ((v as f64 * factor) as usize).min(from - 1) * step));
}
