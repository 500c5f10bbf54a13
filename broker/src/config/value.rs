//! The types of options: how each reads what a file, a variable or a flag says, and how it is written.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// What a source says, before the type of the option is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    Text(String),
    Integer(i64),
    Bool(bool),
    /// Of a variable or a flag: may stand for any type.
    Untyped(String),
    /// A kind of TOML value that no option takes, by name.
    Other(&'static str),
}

/// The type of an option.
pub trait Value: Sized + PartialOrd {
    /// None: it says nothing of this type.
    fn read(raw: &Raw) -> Option<Self>;

    fn is_within(&self, low: &Self, high: &Self) -> bool {
        low <= self && self <= high
    }

    /// As it stands in a file.
    fn write(&self) -> String;

    /// What is accepted, to complete "expected ..".
    fn expected(bounds: Option<(&Self, &Self)>) -> String;
}

/// Reads a value and holds it to its bounds; what is wrong says what is expected.
pub fn read_within<V: Value>(raw: &Raw, bounds: Option<(V, V)>) -> Result<V, String> {
    let is_within = |value: &V| bounds.as_ref().is_none_or(|(low, high)| value.is_within(low, high));
    match V::read(raw) {
        Some(value) if is_within(&value) => Ok(value),
        _ => Err(format!("expected {}", V::expected(bounds.as_ref().map(|(low, high)| (low, high))))),
    }
}

impl Raw {
    /// The text of a string; what variables and flags say may be quoted as in TOML.
    fn text(&self) -> Option<String> {
        match self {
            Raw::Text(text) => Some(text.clone()),
            Raw::Untyped(text) if text.starts_with(['"', '\'']) => {
                let value = text.trim_end().parse::<toml_edit::Value>().ok();
                value.and_then(|value| value.as_str().map(str::to_owned))
            }
            Raw::Untyped(text) => Some(text.clone()),
            _ => None,
        }
    }

    pub fn parse<V: FromStr>(&self) -> Option<V> {
        self.text()?.trim().parse().ok()
    }
}

fn quoted(text: impl Display) -> String {
    toml_edit::Value::from(text.to_string()).to_string()
}

impl Value for bool {
    fn read(raw: &Raw) -> Option<bool> {
        match raw {
            Raw::Bool(value) => Some(*value),
            Raw::Untyped(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }

    fn expected(_: Option<(&bool, &bool)>) -> String {
        "true or false".to_owned()
    }
}

impl Value for String {
    fn read(raw: &Raw) -> Option<String> {
        raw.text()
    }

    fn write(&self) -> String {
        quoted(self)
    }

    fn expected(_: Option<(&String, &String)>) -> String {
        "a string".to_owned()
    }
}

macro_rules! whole_numbers {
    ($($number:ty),+) => {$(
        impl Value for $number {
            fn read(raw: &Raw) -> Option<$number> {
                match raw {
                    Raw::Integer(value) => (*value).try_into().ok(),
                    Raw::Untyped(text) => text.trim().parse().ok(),
                    _ => None,
                }
            }

            fn write(&self) -> String {
                self.to_string()
            }

            fn expected(bounds: Option<(&$number, &$number)>) -> String {
                let (low, high) = bounds.unwrap_or((&<$number>::MIN, &<$number>::MAX));
                format!("a whole number from {low} to {high}")
            }
        }
    )+};
}

whole_numbers!(u8, u16, u32, u64);

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Display for Size {
    /// In the largest unit that says it exactly.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let unit = UNITS.iter().find(|(bytes, _)| self.0 != 0 && self.0.is_multiple_of(*bytes));
        let (bytes, name) = unit.unwrap_or(&(1, "B"));
        write!(formatter, "{} {name}", self.0 / bytes)
    }
}

impl Value for Size {
    fn read(raw: &Raw) -> Option<Size> {
        match raw {
            Raw::Integer(bytes) => (*bytes).try_into().ok().map(Size),
            _ => raw.parse::<bytesize::ByteSize>().map(|size| Size(size.as_u64())),
        }
    }

    fn write(&self) -> String {
        quoted(self)
    }

    fn expected(bounds: Option<(&Size, &Size)>) -> String {
        format!("a size such as \"64 KiB\" or \"1 GiB\"{}", range(bounds, Size::to_string))
    }
}

impl Value for Duration {
    fn read(raw: &Raw) -> Option<Duration> {
        humantime::parse_duration(raw.text()?.trim()).ok()
    }

    fn write(&self) -> String {
        quoted(humantime::format_duration(*self))
    }

    fn expected(bounds: Option<(&Duration, &Duration)>) -> String {
        let text = |value: &Duration| humantime::format_duration(*value).to_string();
        format!("a duration such as \"10s\", \"500ms\" or \"7days\"{}", range(bounds, text))
    }
}

fn range<V>(bounds: Option<(&V, &V)>, text: impl Fn(&V) -> String) -> String {
    bounds.map(|(low, high)| format!(", from {} to {}", text(low), text(high))).unwrap_or_default()
}

impl Value for SocketAddr {
    fn read(raw: &Raw) -> Option<SocketAddr> {
        raw.parse()
    }

    fn write(&self) -> String {
        quoted(self)
    }

    fn expected(_: Option<(&SocketAddr, &SocketAddr)>) -> String {
        "an IP address with a port such as \"127.0.0.1:1883\" or \"[::1]:1883\"".to_owned()
    }
}

/// A value, or a word that stands for one (`auto`, `off`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrWord<V, W> {
    Word(W),
    Value(V),
}

impl<V, W> OrWord<V, W> {
    pub fn value(self) -> Option<V> {
        match self {
            OrWord::Word(_) => None,
            OrWord::Value(value) => Some(value),
        }
    }
}

/// Words of [`OrWord`].
pub trait Word: Copy + Default + PartialOrd {
    const TEXT: &'static str;
}

/// The broker chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Auto;
impl Word for Auto {
    const TEXT: &'static str = "auto";
}

/// There is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Off;
impl Word for Off {
    const TEXT: &'static str = "off";
}

impl<V: Value, W: Word> Value for OrWord<V, W> {
    fn read(raw: &Raw) -> Option<Self> {
        if raw.text().is_some_and(|text| text.trim() == W::TEXT) {
            return Some(OrWord::Word(W::default()));
        }
        V::read(raw).map(OrWord::Value)
    }

    /// Bounds are those of values.
    fn is_within(&self, low: &Self, high: &Self) -> bool {
        match self {
            OrWord::Word(_) => true,
            OrWord::Value(_) => low <= self && self <= high,
        }
    }

    fn write(&self) -> String {
        match self {
            OrWord::Word(_) => quoted(W::TEXT),
            OrWord::Value(value) => value.write(),
        }
    }

    fn expected(bounds: Option<(&Self, &Self)>) -> String {
        let bounds = match bounds {
            Some((OrWord::Value(low), OrWord::Value(high))) => Some((low, high)),
            _ => None,
        };
        format!("\"{}\" or {}", W::TEXT, V::expected(bounds))
    }
}

/// Cores of the shards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cores {
    /// All that the process may use.
    Auto,
    /// So many shards on the first of them.
    Count(u16),
    /// One shard on each of these.
    List(Vec<u16>),
}

impl FromStr for Cores {
    type Err = ();

    fn from_str(text: &str) -> Result<Cores, ()> {
        if text == "auto" {
            return Ok(Cores::Auto);
        }
        if let Ok(count) = text.parse() {
            return Ok(Cores::Count(count));
        }
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<u16>().map_err(drop);
            let (first, last) = (number(first)?, number(last)?);
            if first > last || usize::from(last - first) >= SHARDS_MAX {
                return Err(());
            }
            cores.extend(first..=last);
        }
        let mut sorted = cores.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() == cores.len() { Ok(Cores::List(cores)) } else { Err(()) }
    }
}

/// Most shards of a process.
pub const SHARDS_MAX: usize = shard::SHARDS_MAX as usize;

impl Value for Cores {
    fn read(raw: &Raw) -> Option<Cores> {
        let cores = match raw {
            Raw::Integer(count) => Cores::Count((*count).try_into().ok()?),
            _ => raw.parse()?,
        };
        let count = match &cores {
            Cores::Auto => 1,
            Cores::Count(count) => usize::from(*count),
            Cores::List(list) => list.len(),
        };
        (1..=SHARDS_MAX).contains(&count).then_some(cores)
    }

    fn write(&self) -> String {
        match self {
            Cores::Auto => quoted("auto"),
            Cores::Count(count) => quoted(count),
            // A list of one core would be read as a count.
            Cores::List(list) if list.len() == 1 => quoted(format!("{0}-{0}", list[0])),
            Cores::List(list) => quoted(list.iter().map(u16::to_string).collect::<Vec<_>>().join(",")),
        }
    }

    fn expected(_: Option<(&Cores, &Cores)>) -> String {
        "\"auto\", a number of shards such as \"4\", or a list of cores such as \"0,2-3\"".to_owned()
    }
}

/// An option that takes one of some words.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? } $($note:literal)?) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($variant),+ }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(match self { $($name::$variant => $word),+ })
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<$name, ()> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(()),
                }
            }
        }

        impl $crate::config::value::Value for $name {
            fn read(raw: &$crate::config::value::Raw) -> Option<$name> {
                raw.parse()
            }

            fn write(&self) -> String {
                format!("\"{self}\"")
            }

            fn expected(_: Option<(&$name, &$name)>) -> String {
                let note: &[&str] = &[$($note)?];
                $crate::config::value::any_of(&[$($word),+]) + &note.concat()
            }
        }
    };
}
pub(super) use choice;

/// `"a", "b" or "c"`
pub fn any_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<V: Value>(text: &str) -> Option<V> {
        V::read(&Raw::Untyped(text.to_owned()))
    }

    #[test]
    fn what_is_written_is_read_again() {
        for size in [0, 1, 1023, 1024, 1536, 64 << 10, 5 << 30, 1 << 40] {
            assert_eq!(Size::read(&Raw::Text(Size(size).to_string())), Some(Size(size)));
        }
        for text in ["auto", "1", "4", "0,2,3", "2-2"] {
            let cores: Cores = read(text).expect(text);
            assert_eq!(cores.write(), format!("\"{text}\""));
        }
        assert_eq!(read::<Cores>("0,2-4"), Some(Cores::List(vec![0, 2, 3, 4])));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "0", "129", "-1", "3-2", "0-128", "1,1", "0,1-2,2", "x", "0,", "1.5", "99999999999999999999"]
        {
            assert_eq!(read::<Cores>(text), None, "{text}");
        }
        for text in ["", "KiB", "-1", "1 XB"] {
            assert_eq!(read::<Size>(text), None, "{text}");
        }
        for text in ["", "10", "-1s", "1 fortnight"] {
            assert_eq!(read::<Duration>(text), None, "{text}");
        }
        assert_eq!(u8::read(&Raw::Integer(256)), None);
        assert_eq!(u8::read(&Raw::Text("1".into())), None, "a file has numbers for numbers");
    }

    #[test]
    fn sizes_know_both_kinds_of_units() {
        for (text, bytes) in
            [("64 KiB", 65_536), ("64 kB", 64_000), ("1MiB", 1 << 20), ("10", 10), ("7 B", 7)]
        {
            assert_eq!(read::<Size>(text), Some(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn bounds_are_inclusive_and_named() {
        let bounds = || Some((1u16, 10u16));
        assert_eq!(read_within(&Raw::Integer(10), bounds()), Ok(10));
        let error = read_within(&Raw::Integer(11), bounds());
        assert_eq!(error, Err("expected a whole number from 1 to 10".to_owned()));
    }
}
