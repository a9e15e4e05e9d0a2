//! The shapes that an engine is built for.

use std::fmt;

use crate::{Error, Result};

/// The shapes of a model's input that an engine is built for, axis by axis. An engine that compiles refuses every other
/// shape: to compile for it in the middle of a video would take seconds to minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    input: String,
    least: Vec<usize>,
    usual: Vec<usize>,
    most: Vec<usize>,
}

impl Profile {
    /// For the input called `input`: the least and the greatest extent of each axis, and the shape to tune for.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidConfig`] unless `1 ≤ least ≤ usual ≤ most` on each axis and all have one rank.
    pub fn new(input: &str, least: &[usize], usual: &[usize], most: &[usize]) -> Result<Self> {
        let one_rank = least.len() == usual.len() && usual.len() == most.len() && !least.is_empty();
        let in_order = least.iter().zip(usual).zip(most).all(|((l, u), m)| 1 <= *l && l <= u && u <= m);
        if !one_rank || !in_order {
            let message = format!("no shapes for input {input:?}: from {least:?} over {usual:?} to {most:?}");
            return Err(Error::config(message));
        }
        let [least, usual, most] = [least, usual, most].map(<[usize]>::to_vec);
        Ok(Self { input: input.to_owned(), least, usual, most })
    }

    /// The name of the input.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// The least extents.
    pub fn least(&self) -> &[usize] {
        &self.least
    }

    /// The shape to tune for.
    pub fn usual(&self) -> &[usize] {
        &self.usual
    }

    /// The greatest extents.
    pub fn most(&self) -> &[usize] {
        &self.most
    }

    /// The extent of `axis` if the profile leaves only one.
    pub fn fixed(&self, axis: usize) -> Option<usize> {
        let (least, most) = (self.least.get(axis)?, self.most.get(axis)?);
        (least == most).then_some(*least)
    }

    /// This profile, widened so that both it and `other` lie within.
    pub fn with(mut self, other: &Self) -> Self {
        self.least.iter_mut().zip(&other.least).for_each(|(a, b)| *a = (*a).min(*b));
        self.most.iter_mut().zip(&other.most).for_each(|(a, b)| *a = (*a).max(*b));
        self.usual.iter_mut().zip(&other.usual).for_each(|(a, b)| *a = (*a).max(*b));
        self
    }

    /// Checks that `shape` lies within.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] with the shape, the profile and what to do.
    pub fn admits(&self, shape: &[usize]) -> Result<()> {
        let within = shape.len() == self.least.len()
            && shape.iter().zip(&self.least).zip(&self.most).all(|((d, l), m)| (l..=m).contains(&d));
        if within {
            return Ok(());
        }
        Err(Error::bad_input(format!(
            "input {:?} is {shape:?}, outside of the shapes that the engine was built for, {self}; it is not built \
             anew while frames come: change the pipeline file and `tapetum warm` it",
            self.input
        )))
    }
}

/// `[1 to 8, 3, 512, 512]`.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axis = |(l, m): (&usize, &usize)| if l == m { l.to_string() } else { format!("{l} to {m}") };
        let axes: Vec<String> = self.least.iter().zip(&self.most).map(axis).collect();
        write!(f, "[{}]", axes.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_told_with_both_shapes() {
        let profile = Profile::new("image", &[1, 3, 16, 16], &[1, 3, 64, 64], &[8, 3, 64, 96]).unwrap();
        for inside in [[1, 3, 16, 16], [8, 3, 64, 96], [4, 3, 20, 30]] {
            profile.admits(&inside).unwrap();
        }
        for outside in [&[9, 3, 64, 64][..], &[1, 1, 64, 64], &[1, 3, 15, 64], &[1, 3, 64, 97], &[1, 3, 64]] {
            let text = profile.admits(outside).unwrap_err().to_string();
            assert!(text.contains(&format!("{outside:?}")), "{text}");
            assert!(text.contains("[1 to 8, 3, 16 to 64, 16 to 96]") && text.contains("warm"), "{text}");
        }
        assert_eq!([profile.fixed(0), profile.fixed(1), profile.fixed(9)], [None, Some(3), None]);
    }

    #[test]
    fn profiles_out_of_order_are_refused_and_two_become_one() {
        let of = |l: &[usize], u: &[usize], m: &[usize]| Profile::new("x", l, u, m);
        assert!(of(&[2], &[1], &[3]).is_err());
        assert!(of(&[0], &[1], &[3]).is_err());
        assert!(of(&[1], &[1, 2], &[3]).is_err());
        assert!(of(&[], &[], &[]).is_err());
        let both = of(&[2], &[3], &[4]).unwrap().with(&of(&[1], &[1], &[3]).unwrap());
        assert_eq!(both, of(&[1], &[3], &[4]).unwrap());
    }
}
