//! What a camera can be told beside its format: numbers, switches and choices, by name.
//!
//! What is not asked for stays as it is. Controls are set in the order of [`CONTROLS`], so that an automatic is switched off
//! before the value that it would have chosen is set.

use tapetum_runtime::{Error, Result, settings::hint};

/// What a control takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number; its bounds are the camera's.
    Number,
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [(&'static str, i32)]),
}

/// A control that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// As written in options.
    pub name: &'static str,
    /// The kernel's number for it.
    pub id: u32,
    /// What it takes.
    pub kind: Kind,
}

/// The kernel's classes of controls.
const USER: u32 = 0x0098_0900;
const CAMERA: u32 = 0x009a_0900;

const fn control(name: &'static str, id: u32, kind: Kind) -> Control {
    Control { name, id, kind }
}

const EXPOSURE: Kind =
    Kind::Choice(&[("auto", 0), ("manual", 1), ("shutter-priority", 2), ("aperture-priority", 3)]);
const POWER_LINE: Kind = Kind::Choice(&[("off", 0), ("50hz", 1), ("60hz", 2), ("auto", 3)]);

/// Every control, in the order in which they are set.
pub const CONTROLS: [Control; 19] = [
    control("exposure", CAMERA + 1, EXPOSURE),
    control("auto_gain", USER + 18, Kind::Switch),
    control("auto_white_balance", USER + 12, Kind::Switch),
    control("auto_focus", CAMERA + 12, Kind::Switch),
    control("power_line", USER + 24, POWER_LINE),
    control("brightness", USER, Kind::Number),
    control("contrast", USER + 1, Kind::Number),
    control("saturation", USER + 2, Kind::Number),
    control("hue", USER + 3, Kind::Number),
    control("gamma", USER + 16, Kind::Number),
    control("gain", USER + 19, Kind::Number),
    control("flip_horizontal", USER + 20, Kind::Switch),
    control("flip_vertical", USER + 21, Kind::Switch),
    control("white_balance", USER + 26, Kind::Number),
    control("sharpness", USER + 27, Kind::Number),
    control("backlight", USER + 28, Kind::Number),
    control("exposure_time", CAMERA + 2, Kind::Number),
    control("focus", CAMERA + 10, Kind::Number),
    control("zoom", CAMERA + 13, Kind::Number),
];

impl Control {
    /// The value that `text` says.
    ///
    /// # Errors
    /// It is of another kind; the message says what the control takes.
    pub fn value(&self, text: &str) -> Result<i32> {
        let name = self.name;
        let (value, wanted) = match self.kind {
            Kind::Number => (text.parse().ok(), "a whole number".to_owned()),
            Kind::Switch => (text.parse().ok().map(i32::from as fn(bool) -> i32), "true or false".to_owned()),
            Kind::Choice(words) => {
                let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let value = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
                (value, format!("one of its words{}", hint(text, &names)))
            }
        };
        value.ok_or_else(|| Error::config(format!("{name} must be {wanted}, not {text:?}")))
    }

    /// Holds a value against what the camera says of this control.
    ///
    /// # Errors
    /// The value is out of bounds or off the steps.
    pub fn fits(&self, value: i32, least: i32, most: i32, step: i32) -> Result<()> {
        let off = i64::from(value) - i64::from(least);
        if value < least || value > most || off % i64::from(step.max(1)) != 0 {
            let name = self.name;
            return Err(Error::config(format!(
                "{name} must be from {least} to {most} in steps of {}, not {value}",
                step.max(1)
            )));
        }
        Ok(())
    }
}
