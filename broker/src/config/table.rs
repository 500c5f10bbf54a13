//! The one table of options. A section is declared once with [`options!`]: its doc comments are the manual, its
//! defaults and bounds are what is in force, and its fields are what the broker reads.

use super::value::Raw;

/// A section of options, or one listener.
pub trait Section {
    /// Its name in files and keys.
    fn name(&self) -> &'static str;
    fn doc(&self) -> &'static [&'static str];
    fn options(&self) -> Vec<OptionSpec>;
    /// Sets an option of `options`. The error says what is expected.
    fn set(&mut self, option: &str, raw: &Raw) -> Result<(), String>;
    /// The value as it stands in a file.
    fn get(&self, option: &str) -> String;
}

/// What the manual says of an option.
pub struct OptionSpec {
    pub name: &'static str,
    /// Lines of the doc comment: what it is, then `Size: ..`, then `At the bound: ..`.
    pub doc: &'static [&'static str],
    /// As it stands in a file.
    pub default: String,
    pub expected: String,
}

macro_rules! options {
    (
        $(#[doc = $section_doc:literal])*
        $section:ident as $section_name:literal {
            $(
                $(#[doc = $doc:literal])*
                $option:ident: $type:ty = $default:literal $(in $low:literal ..= $high:literal)?;
            )+
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section {
            $($(#[doc = $doc])* pub $option: $type,)+
        }

        impl Default for $section {
            fn default() -> $section {
                $section { $($option: $crate::config::table::constant($default),)+ }
            }
        }

        impl $crate::config::table::Section for $section {
            fn name(&self) -> &'static str {
                $section_name
            }

            fn doc(&self) -> &'static [&'static str] {
                &[$($section_doc),*]
            }

            fn options(&self) -> Vec<$crate::config::table::OptionSpec> {
                use $crate::config::{table, value::Value};
                vec![$({
                    let bounds: Option<($type, $type)> = table::bounds(&[$($low, $high)?]);
                    table::OptionSpec {
                        name: stringify!($option),
                        doc: &[$($doc),*],
                        default: table::constant::<$type>($default).write(),
                        expected: <$type>::expected(bounds.as_ref().map(|(low, high)| (low, high))),
                    }
                }),+]
            }

            fn set(&mut self, option: &str, raw: &$crate::config::value::Raw) -> Result<(), String> {
                use $crate::config::{table, value};
                match option {
                    $(stringify!($option) => {
                        self.$option = value::read_within(raw, table::bounds(&[$($low, $high)?]))?;
                    })+
                    _ => return Err(format!("{} has no option `{option}`", $section_name)),
                }
                Ok(())
            }

            fn get(&self, option: &str) -> String {
                use $crate::config::value::Value;
                match option {
                    $(stringify!($option) => self.$option.write(),)+
                    _ => String::new(),
                }
            }
        }
    };
}
pub(super) use options;

/// A value that the table itself has.
pub fn constant<V: super::value::Value>(text: &str) -> V {
    V::read(&Raw::Untyped(text.to_owned())).expect("the table has valid values")
}

pub fn bounds<V: super::value::Value>(bounds: &[&str]) -> Option<(V, V)> {
    match bounds {
        [low, high] => Some((constant(low), constant(high))),
        _ => None,
    }
}
