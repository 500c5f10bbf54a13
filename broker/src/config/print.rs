//! The configuration as text: every option for the file that is shipped and for the manual, and what is in force.

use std::fmt::Write;

use super::table::{OptionSpec, Section};
use super::{Config, Listener};

const HEAD: &str = "\
# Configuration of shardmq: every option with its default. A variable SHARDMQ_SECTION__OPTION overrides the
# file, and a flag (--set section.option=value) overrides both. Sizes: \"64 KiB\". Durations: \"10s\".
";
const WIDTH: usize = 110;

/// Every option, commented out, with what the manual says of it: a file to start from.
pub fn commented() -> String {
    let mut text = HEAD.to_owned();
    for_each_section(|section, title| {
        // A listener that stood there would be one.
        let title = if title.starts_with("[[") { format!("#{title}") } else { title };
        text += &format!("\n{}{title}\n", comment(&paragraphs(section.doc())));
        for option in section.options() {
            text += &format!("\n{}#{} = {}\n", comment(&paragraphs(option.doc)), option.name, option.default);
        }
    });
    text
}

/// The manual's chapter of options.
pub fn markdown() -> String {
    let mut chapters = Vec::new();
    for_each_section(|section, title| {
        let mut text = format!("### `{title}`\n\n{}\n", paragraphs(section.doc()).join("\n"));
        for OptionSpec { name, doc, default, expected } in section.options() {
            text += &format!("\n- **`{}.{name}`** = `{default}` ({expected})", section.name());
            for (index, paragraph) in paragraphs(doc).iter().enumerate() {
                let marked = match paragraph.split_once(": ") {
                    Some((mark @ ("Size" | "At the bound"), rest)) if index > 0 => {
                        format!("*{mark}:* {rest}")
                    }
                    _ => paragraph.clone(),
                };
                text += &format!("  \n  {marked}");
            }
            text += "\n";
        }
        chapters.push(text);
    });
    chapters.join("\n")
}

/// What is in force, as a file; with `has_origins` each line says where it comes from.
pub fn in_force(config: &Config, has_origins: bool) -> String {
    let mut text = String::new();
    let mut print = |section: &dyn Section, title: &str, prefix: &str| {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "{title}");
        for option in section.options() {
            let _ = write!(text, "{} = {}", option.name, section.get(option.name));
            if has_origins {
                let _ = write!(text, "  # {}", config.origin(&format!("{prefix}.{}", option.name)));
            }
            text.push('\n');
        }
    };
    for listener in &config.listeners {
        print(listener, "[[listener]]", &format!("listener.{}", listener.name));
    }
    for section in config.sections() {
        print(section, &format!("[{}]", section.name()), section.name());
    }
    text
}

fn for_each_section(mut visit: impl FnMut(&dyn Section, String)) {
    visit(&Listener::default(), "[[listener]]".to_owned());
    for section in Config::default().sections() {
        visit(section, format!("[{}]", section.name()));
    }
}

/// The lines of a doc comment, joined to what they mean.
fn paragraphs(lines: &[&str]) -> Vec<String> {
    let mut paragraphs: Vec<String> = Vec::new();
    for line in lines.iter().map(|line| line.trim()) {
        match paragraphs.last_mut() {
            Some(last) if !line.starts_with("Size: ") && !line.starts_with("At the bound: ") => {
                last.push(' ');
                last.push_str(line);
            }
            _ => paragraphs.push(line.to_owned()),
        }
    }
    paragraphs
}

fn comment(paragraphs: &[String]) -> String {
    let mut text = String::new();
    for paragraph in paragraphs {
        let mut line = "#".to_owned();
        for word in paragraph.split_whitespace() {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
                let _ = writeln!(text, "{line}");
                line = "#".to_owned();
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = writeln!(text, "{line}");
    }
    text
}
