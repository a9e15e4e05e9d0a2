//! A feature map as tokens `[H·W, C]`, and which of them each window has.
//!
//! Kept windows are gathered through a table `[windows, window²]` of token numbers, with the cyclic shift worked in, which
//! also says where to put the results.

use tapetum_runtime::{Result, Tensor};

use super::emit::Emit;
use crate::graph::{Attr, Dim};
use crate::zoo::InputSize;

/// One extent of a feature map.
#[derive(Clone)]
enum Extent {
    Fixed(i64),
    /// A rank-1 `i64` value of one element.
    Value(String),
}

/// A resolution of the network: both extents, and what they are called in the graph.
#[derive(Clone)]
pub(super) struct Plane {
    name: String,
    rows: Extent,
    cols: Extent,
    /// Input pixels per token along an axis.
    scale: usize,
    dims: [Dim; 2],
}

/// The two window grids of a plane.
pub(super) struct Grid {
    /// Token numbers, `[windows, window²]`.
    pub tokens: String,
    /// For the shifted grid: which tokens of a window may see each other, `[windows]`. 0 inside, +1 in the last
    /// column, +2 in the last row (where the cyclic shift brings together what is far apart).
    pub kinds: Option<String>,
}

impl Plane {
    /// The resolution of the network's input.
    pub fn of_input(e: &mut Emit, image: &str, size: InputSize, dims: &[Dim]) -> Self {
        let (rows, cols) = match size {
            InputSize::Fixed { height, width } => (Extent::Fixed(height as i64), Extent::Fixed(width as i64)),
            InputSize::Dynamic => {
                let shape = e.b.unary("Shape", "size", image);
                let rows = e.b.slice("size/height", &shape, 0, 2, 3);
                let cols = e.b.slice("size/width", &shape, 0, 3, 4);
                (Extent::Value(rows), Extent::Value(cols))
            }
        };
        Self { name: "plane_0".into(), rows, cols, scale: 1, dims: [dims[2].clone(), dims[3].clone()] }
    }

    /// The plane of half the extents, called `plane_{level}`.
    pub fn halved(&self, e: &mut Emit, level: usize) -> Self {
        let name = format!("plane_{level}");
        Self {
            rows: self.rows.divided(e, &format!("{name}/rows"), 2),
            cols: self.cols.divided(e, &format!("{name}/cols"), 2),
            scale: self.scale * 2,
            name,
            dims: self.dims.clone(),
        }
    }

    /// Extents of a map with one value per `block × block` tokens.
    pub fn dims(&self, block: usize) -> [Dim; 2] {
        let by = self.scale * block;
        self.dims.clone().map(|d| match d {
            Dim::Fixed(n) => Dim::Fixed(n / by),
            Dim::Symbol(s) if by > 1 => Dim::Symbol(format!("{s}/{by}")),
            other => other,
        })
    }

    /// Reshapes `x` to extents that may depend on the plane's.
    pub fn reshape(&self, e: &mut Emit, name: &str, x: &str, parts: &[Part]) -> String {
        let mut extents = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            extents.push(match part {
                Part::Just(n) => Extent::Fixed(*n),
                Part::Rows(block) => self.rows.divided(e, &format!("{name}/rows_{at}"), *block),
                Part::Cols(block) => self.cols.divided(e, &format!("{name}/cols_{at}"), *block),
            });
        }
        let fixed: Option<Vec<i64>> = extents.iter().map(Extent::fixed).collect();
        let shape = match fixed {
            Some(shape) => e.b.ints(&shape),
            None => {
                let parts: Vec<String> = extents.iter().map(|x| x.vector(e)).collect();
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                e.b.concat(&format!("{name}/shape"), &parts, 0)
            }
        };
        e.b.op("Reshape", name, &[x, &shape], &[])
    }

    /// The windows of side `window`, of the map rolled back by half a window if `shifted`.
    pub fn grid(&self, e: &mut Emit, window: usize, shifted: bool) -> Result<Grid> {
        let name = format!("{}/{}", self.name, if shifted { "shifted" } else { "plain" });
        let shift = if shifted { window as i64 / 2 } else { 0 };
        let rows = self.rows.rolled(e, &format!("{name}/rows"), shift);
        let cols = self.cols.rolled(e, &format!("{name}/cols"), shift);
        let side = window as i64;
        let rows = e.b.reshape(&format!("{name}/rows/tiled"), &rows, &[-1, 1, side, 1]);
        let cols = e.b.reshape(&format!("{name}/cols/tiled"), &cols, &[1, -1, 1, side]);
        let width = self.cols.vector(e);
        let starts = e.b.binary("Mul", &format!("{name}/row_starts"), &rows, &width);
        let tokens = e.b.binary("Add", &format!("{name}/tokens"), &starts, &cols);
        let tokens = e.b.reshape(&format!("{name}/table"), &tokens, &[-1, side * side]);
        let kinds = if shifted { Some(self.kinds(e, &name, window)) } else { None };
        Ok(Grid { tokens, kinds })
    }

    fn kinds(&self, e: &mut Emit, name: &str, window: usize) -> String {
        let row = self.rows.is_last(e, &format!("{name}/in_last_row"), window);
        let col = self.cols.is_last(e, &format!("{name}/in_last_col"), window);
        let two = e.b.ints(&[2]);
        let row = e.b.binary("Mul", &format!("{name}/row_kind"), &row, &two);
        let row = e.b.reshape(&format!("{name}/row_kind/tiled"), &row, &[-1, 1]);
        let kinds = e.b.binary("Add", &format!("{name}/kind"), &row, &col);
        e.b.reshape(&format!("{name}/kinds"), &kinds, &[-1])
    }
}

/// The map `x [rows, cols, C]` rolled by `by` up and left; by `-by` down and right if negative.
pub(super) fn roll(e: &mut Emit, name: &str, x: &str, by: i64) -> String {
    let mut x = x.to_owned();
    for axis in 0..2 {
        let rest = e.b.slice(&format!("{name}/rest_{axis}"), &x, axis, by, i64::MAX);
        let first = e.b.slice(&format!("{name}/first_{axis}"), &x, axis, 0, by);
        x = e.b.concat(&format!("{name}/axis_{axis}"), &[&rest, &first], axis);
    }
    x
}

/// One extent of a reshaped plane.
pub(super) enum Part {
    /// This number; −1 infers.
    Just(i64),
    /// The rows divided by this.
    Rows(usize),
    /// The columns divided by this.
    Cols(usize),
}

impl Extent {
    fn fixed(&self) -> Option<i64> {
        if let Self::Fixed(n) = self { Some(*n) } else { None }
    }

    fn vector(&self, e: &mut Emit) -> String {
        match self {
            Self::Fixed(n) => e.b.ints(&[*n]),
            Self::Value(v) => v.clone(),
        }
    }

    fn scalar(&self, e: &mut Emit, name: &str) -> String {
        match self {
            Self::Fixed(n) => e.b.helper(&format!("int[{n}]"), Tensor::scalar(*n)),
            Self::Value(v) => {
                let axis = e.b.ints(&[0]);
                e.b.binary("Squeeze", name, v, &axis)
            }
        }
    }

    fn divided(&self, e: &mut Emit, name: &str, by: usize) -> Self {
        match self {
            _ if by == 1 => self.clone(),
            Self::Fixed(n) => Self::Fixed(n / by as i64),
            Self::Value(v) => {
                let by = e.b.ints(&[by as i64]);
                Self::Value(e.b.binary("Div", name, v, &by))
            }
        }
    }

    /// `shift, shift + 1, .., n − 1, 0, .., shift − 1`.
    fn rolled(&self, e: &mut Emit, name: &str, shift: i64) -> String {
        let end = self.scalar(e, &format!("{name}/end"));
        let [start, step] = [shift, 1].map(|v| e.b.helper(&format!("int[{v}]"), Tensor::scalar(v)));
        let range = e.b.op("Range", &format!("{name}/range"), &[&start, &end, &step], &[]);
        if shift == 0 {
            return range;
        }
        let wrapped = e.b.ints(&(0..shift).collect::<Vec<_>>());
        e.b.concat(name, &[&range, &wrapped], 0)
    }

    /// 1 for the last window along this axis, 0 for the others.
    fn is_last(&self, e: &mut Emit, name: &str, window: usize) -> String {
        let count = self.divided(e, &format!("{name}/count"), window);
        let end = count.scalar(e, &format!("{name}/end"));
        let [one, step] = [1i64; 2].map(|v| e.b.helper(&format!("int[{v}]"), Tensor::scalar(v)));
        let next = e.b.op("Range", &format!("{name}/range"), &[&one, &end, &step], &[]);
        let last = e.b.ints(&[1]);
        // `count − 1` zeros and a one.
        let zeros = e.b.binary("Sub", &format!("{name}/zeros"), &next, &next);
        e.b.op("Concat", name, &[&zeros, &last], &[("axis", Attr::Int(0))])
    }
}
