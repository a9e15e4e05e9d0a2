//! What is charted, in bounded memory.

/// One frame, or the frames that one point stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub seconds: f64,
    pub class: Option<usize>,
    /// Pixels that have a class other than the background.
    pub area: u64,
    /// The same as a share of what was looked at, 0–1.
    pub share: f64,
}

/// Points kept at most.
const MOST: usize = 20_000;

/// Points over time; where they become too many, two neighbours become one, of the greater area.
#[derive(Default)]
pub(super) struct Series {
    pub points: Vec<Point>,
    /// Frames per point, as a power of two.
    halvings: u32,
    waiting: Option<(Point, u64)>,
}

impl Series {
    pub fn add(&mut self, point: Point) {
        let (kept, frames) = match self.waiting {
            None => (point, 1),
            Some((kept, frames)) => (greater(kept, point), frames + 1),
        };
        self.waiting = Some((kept, frames));
        if frames < 1 << self.halvings {
            return;
        }
        self.waiting = None;
        self.points.push(kept);
        if self.points.len() >= MOST {
            self.points = self
                .points
                .chunks(2)
                .map(|two| two[1..].iter().fold(two[0], |a, b| greater(a, *b)))
                .collect();
            self.halvings += 1;
        }
    }
}

fn greater(a: Point, b: Point) -> Point {
    let (area, share) = if b.area > a.area { (b.area, b.share) } else { (a.area, a.share) };
    Point { area, share, ..a }
}
