//! Topic names and filters (4.7), shared subscriptions (4.8.2).

/// One to 65,535 bytes without wildcards and U+0000.
pub fn is_valid_topic_name(topic: &str) -> bool {
    (1..=65_535).contains(&topic.len()) && memchr::memchr3(b'+', b'#', 0, topic.as_bytes()).is_none()
}

/// One to 65,535 bytes; `+` alone in its level, `#` alone in the last one [MQTT-4.7.1-1, MQTT-4.7.1-2]. A `$share`
/// prefix is looked at by [`parse_shared`].
pub fn is_valid_filter(filter: &str) -> bool {
    if !(1..=65_535).contains(&filter.len()) || filter.as_bytes().contains(&0) {
        return false;
    }
    let mut levels = levels(filter).peekable();
    while let Some(level) = levels.next() {
        let is_valid = match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            _ => memchr::memchr2(b'+', b'#', level.as_bytes()).is_none(),
        };
        if !is_valid {
            return false;
        }
    }
    true
}

/// The levels, empty ones included.
pub fn levels(topic: &str) -> impl Iterator<Item = &str> {
    topic.split('/')
}

/// How many levels there are.
pub fn level_count(topic: &str) -> usize {
    1 + memchr::memchr_iter(b'/', topic.as_bytes()).count()
}

/// Whether the filter matches the topic name. A leading wildcard does not match names that begin with `$`
/// [MQTT-4.7.2-1]. Both are valid.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = levels(topic);
    for level in levels(filter) {
        match (level, names.next()) {
            // `a/#` matches `a` too.
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// The parts of `$share/group/filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    pub group: &'a str,
    pub filter: &'a str,
}

/// A `$share` filter whose share name or filter is missing or has a wildcard where it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid shared subscription")]
pub struct InvalidFilter;

/// Takes a shared filter apart [MQTT-4.8.2-1, MQTT-4.8.2-2]; None for any other filter.
pub fn parse_shared(filter: &str) -> Result<Option<SharedFilter<'_>>, InvalidFilter> {
    let rest = match filter.strip_prefix("$share") {
        Some("") => return Err(InvalidFilter),
        Some(rest) => match rest.strip_prefix('/') {
            Some(rest) => rest,
            // `$shared/x` is an ordinary filter.
            None => return Ok(None),
        },
        None => return Ok(None),
    };
    let (group, filter) = rest.split_once('/').ok_or(InvalidFilter)?;
    if group.is_empty() || group.contains(['+', '#']) || filter.is_empty() {
        return Err(InvalidFilter);
    }
    Ok(Some(SharedFilter { group, filter }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        let table = [
            ("sport/#", "sport", true),
            ("sport/#", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("a//b", "a//b", true),
            ("a/b", "a//b", false),
            ("/", "/", true),
            ("//", "//", true),
            ("+", "a", true),
            ("a/#", "ab", false),
            ("A", "a", false),
        ];
        for (filter, topic, expected) in table {
            assert!(is_valid_filter(filter) && is_valid_topic_name(topic));
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn invalid_filters_and_names() {
        for filter in ["", "a#", "a/#/b", "+a", "a+/b", "#/", "#a", "a\0"] {
            assert!(!is_valid_filter(filter), "{filter:?}");
        }
        for topic in ["", "a/+", "#", "a\0b"] {
            assert!(!is_valid_topic_name(topic), "{topic:?}");
        }
    }

    #[test]
    fn shared_filters() {
        assert_eq!(parse_shared("$share/g/a/#"), Ok(Some(SharedFilter { group: "g", filter: "a/#" })));
        assert_eq!(parse_shared("$share/g//"), Ok(Some(SharedFilter { group: "g", filter: "/" })));
        for filter in ["$share", "$share/", "$share/g", "$share//f", "$share/g/", "$share/+/a", "$share/g#/a"]
        {
            assert_eq!(parse_shared(filter), Err(InvalidFilter), "{filter}");
        }
        assert_eq!(parse_shared("$shared/g/a"), Ok(None));
        assert_eq!(parse_shared("a/$share/g"), Ok(None));
    }
}
