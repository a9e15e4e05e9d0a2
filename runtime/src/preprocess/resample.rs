//! One filter at work.

use super::{
    antialias::Antialiased,
    area::Area,
    nearest::Nearest,
    resize::{Taps, TwoTap},
    view::{Target, View, deinterleave},
};
use crate::contract::Filter;

/// Gives a resized picture row by row. Tables are made again only when a size changes, in the memory that is there.
pub(super) struct Resampler {
    kernel: Kernel,
    /// What the tables are for: the source's (width, height) and channels, and what is to be made.
    planned: Option<((usize, usize), usize, Target)>,
}

enum Kernel {
    Copy,
    Nearest(Nearest),
    Bilinear(TwoTap),
    Antialiased(Antialiased),
    Area(Area),
}

impl Resampler {
    /// `None` resizes nothing: source and target must be of one size.
    pub(super) fn new(filter: Option<Filter>) -> Self {
        let kernel = match filter {
            None => Kernel::Copy,
            Some(Filter::Nearest) => Kernel::Nearest(Nearest::default()),
            Some(Filter::Bilinear) => Kernel::Bilinear(TwoTap::default()),
            Some(Filter::BilinearAntialiased) => Kernel::Antialiased(Antialiased::default()),
            Some(Filter::Area) => Kernel::Area(Area::default()),
        };
        Self { kernel, planned: None }
    }

    /// To be called before the first row of a picture.
    pub(super) fn begin(&mut self, view: &View, target: Target) {
        let (from, channels) = (view.size(), view.channels());
        let plan = Some((from, channels, target));
        if self.planned != plan {
            match &mut self.kernel {
                Kernel::Copy => {}
                Kernel::Nearest(nearest) => nearest.plan(from, channels, &target),
                Kernel::Bilinear(two_tap) => two_tap.plan(from, channels, &target, Taps::Centres),
                Kernel::Antialiased(antialiased) => antialiased.plan(from, channels, &target),
                Kernel::Area(area) => area.plan(from, channels, &target),
            }
            self.planned = plan;
        }
        match &mut self.kernel {
            Kernel::Copy | Kernel::Nearest(_) => {}
            Kernel::Bilinear(two_tap) => two_tap.begin(),
            Kernel::Antialiased(antialiased) => antialiased.begin(),
            Kernel::Area(area) => area.begin(),
        }
    }

    /// Row `y` of the target's window, its channels one after the other. Rows must be asked for from 0 on, in order.
    pub(super) fn row(&mut self, view: &View, target: &Target, y: usize, planes: &mut [u8]) {
        // All filters leave a picture of the right size as it is.
        if view.size() == target.size {
            let (window, channels) = (target.window, view.channels());
            let row = &view.row(window.y + y)[window.x * channels..(window.x + window.width) * channels];
            return deinterleave(row, channels, planes);
        }
        match &mut self.kernel {
            Kernel::Copy => {}
            Kernel::Nearest(nearest) => nearest.row(view, y, planes),
            Kernel::Bilinear(two_tap) => two_tap.row(view, y, planes),
            Kernel::Antialiased(antialiased) => antialiased.row(view, y, planes),
            Kernel::Area(area) => area.row(view, y, planes),
        }
    }
}
