//! Access rules: data in, verdict out. A policy is resolved once for each connection; the verdict on a topic needs only
//! what was resolved. `%c` and `%u` stand for client id and user name, each as one whole level.

/// Who may publish and subscribe to what. Without rules everything is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPolicy {
    /// The first rules win; see `is_default_allow` for what no rule speaks of.
    pub rules: Vec<AccessRule>,
    /// The verdict where no rule matches.
    pub is_default_allow: bool,
    /// Clients may subscribe to `$SYS` topics.
    pub is_sys_subscribe_allowed: bool,
}

impl Default for AccessPolicy {
    fn default() -> Self {
        AccessPolicy { rules: Vec::new(), is_default_allow: true, is_sys_subscribe_allowed: true }
    }
}

/// One rule. It is about the clients that both patterns match (None: any), and about the topics that its filters cover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRule {
    /// Pattern of the client id; `*` stands for any characters.
    pub client_id: Option<String>,
    pub user_name: Option<String>,
    /// Topic filters, with `%c` and `%u` as whole levels.
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
    pub is_deny: bool,
}

/// The rules that concern one client, placeholders filled in.
#[derive(Clone, Debug)]
pub(crate) struct ClientAccess {
    /// None: no rule concerns it.
    rules: Option<Box<Rules>>,
    is_default_allow: bool,
    is_sys_subscribe_allowed: bool,
}

#[derive(Clone, Debug)]
struct Rules(Box<[Resolved]>);

#[derive(Clone, Debug)]
struct Resolved {
    publish: Box<[Box<str>]>,
    subscribe: Box<[Box<str>]>,
    is_deny: bool,
}

impl AccessPolicy {
    pub(crate) fn resolve(&self, client_id: &str, user_name: Option<&str>) -> ClientAccess {
        let concerns = |rule: &&AccessRule| {
            rule.client_id.as_deref().is_none_or(|pattern| glob(pattern, client_id))
                && rule
                    .user_name
                    .as_deref()
                    .is_none_or(|pattern| user_name.is_some_and(|name| glob(pattern, name)))
        };
        let resolved: Vec<Resolved> = self
            .rules
            .iter()
            .filter(concerns)
            .map(|rule| {
                let fill = |filters: &[String]| {
                    filters.iter().filter_map(|f| fill(f, client_id, user_name, rule.is_deny)).collect()
                };
                Resolved {
                    publish: fill(&rule.publish),
                    subscribe: fill(&rule.subscribe),
                    is_deny: rule.is_deny,
                }
            })
            .collect();
        ClientAccess {
            rules: (!resolved.is_empty()).then(|| Box::new(Rules(resolved.into()))),
            is_default_allow: self.is_default_allow,
            is_sys_subscribe_allowed: self.is_sys_subscribe_allowed,
        }
    }
}

impl ClientAccess {
    #[inline]
    pub fn may_publish(&self, topic: &str) -> bool {
        let Some(Rules(rules)) = self.rules.as_deref() else { return self.is_default_allow };
        let covers =
            |rule: &&Resolved| rule.publish.iter().any(|filter| protocol::topic::matches(filter, topic));
        rules.iter().find(covers).map_or(self.is_default_allow, |rule| !rule.is_deny)
    }

    /// `filter` as the client wrote it; a shared one is judged by what stands behind the share name. An allowing rule
    /// has to cover all that the filter can match, a denying one refuses as soon as they overlap.
    pub fn may_subscribe(&self, filter: &str) -> bool {
        let filter = match protocol::topic::parse_shared(filter) {
            Ok(Some(shared)) => shared.filter,
            _ => filter,
        };
        if !self.is_sys_subscribe_allowed && (filter == "$SYS" || filter.starts_with("$SYS/")) {
            return false;
        }
        let Some(Rules(rules)) = self.rules.as_deref() else { return self.is_default_allow };
        for rule in rules {
            let is_meant =
                |other: &str| if rule.is_deny { overlaps(other, filter) } else { covers(other, filter) };
            if rule.subscribe.iter().any(|other| is_meant(other)) {
                return !rule.is_deny;
            }
        }
        self.is_default_allow
    }
}

/// `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Puts client id and user name in. A value that is more or less than one plain level makes an allowing filter vanish
/// and a denying one match anything in that level.
fn fill(filter: &str, client_id: &str, user_name: Option<&str>, is_deny: bool) -> Option<Box<str>> {
    let mut levels = Vec::new();
    for level in filter.split('/') {
        let value = match level {
            "%c" => client_id,
            "%u" => user_name.unwrap_or_default(),
            _ => {
                levels.push(level);
                continue;
            }
        };
        match value.is_empty() || value.contains(['/', '+', '#', '\0']) {
            false => levels.push(value),
            true if is_deny => levels.push("+"),
            true => return None,
        }
    }
    Some(levels.join("/").into())
}

/// Whether `outer` matches every topic that `inner` matches.
fn covers(outer: &str, inner: &str) -> bool {
    if inner.starts_with('$') && outer.starts_with(['+', '#']) {
        return false;
    }
    let mut inner_levels = inner.split('/');
    for level in outer.split('/') {
        match (level, inner_levels.next()) {
            ("#", _) => return true,
            (_, None | Some("#")) => return false,
            ("+", Some(_)) => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    inner_levels.next().is_none()
}

/// Whether some topic matches both.
fn overlaps(first: &str, second: &str) -> bool {
    let is_reserved = |filter: &str| filter.starts_with('$');
    let is_open = |filter: &str| filter.starts_with(['+', '#']);
    if (is_reserved(first) && is_open(second)) || (is_reserved(second) && is_open(first)) {
        return false;
    }
    let (mut a, mut b) = (first.split('/'), second.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) => return true,
            (None, None) => return true,
            (Some(x), Some(y)) if x == y || x == "+" || y == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(publish: &[&str], subscribe: &[&str], is_deny: bool) -> AccessRule {
        let own = |list: &[&str]| list.iter().map(|filter| filter.to_string()).collect();
        AccessRule { publish: own(publish), subscribe: own(subscribe), is_deny, ..AccessRule::default() }
    }

    fn policy(rules: Vec<AccessRule>) -> AccessPolicy {
        AccessPolicy { rules, is_default_allow: false, is_sys_subscribe_allowed: false }
    }

    #[test]
    fn verdicts() {
        let policy = policy(vec![
            rule(&["a/secret"], &["a/secret/#"], true),
            rule(&["a/#", "own/%c/+"], &["a/#", "own/%c/#", "#"], false),
        ]);
        let access = policy.resolve("me", None);
        for (topic, expected) in
            [("a/x", true), ("a/secret", false), ("own/me/1", true), ("own/you/1", false), ("b", false)]
        {
            assert_eq!(access.may_publish(topic), expected, "{topic}");
        }
        for (filter, expected) in [
            ("a/x", true),
            ("a/secret/1", false),
            ("a/+/1", false),
            ("a/#", false),
            ("own/me/#", true),
            ("$share/g/own/me/#", true),
            ("$share/g/a/secret", false),
            ("b/#", true),
            ("$SYS/#", false),
            ("$other/x", false),
        ] {
            assert_eq!(access.may_subscribe(filter), expected, "{filter}");
        }
    }

    #[test]
    fn client_ids_with_wildcards_gain_nothing() {
        let policy = policy(vec![rule(&["own/%c"], &["own/%c"], false), rule(&["no/%c"], &[], true)]);
        for id in ["+", "#", "a/b", "", "x\0y"] {
            let access = policy.resolve(id, None);
            assert!(!access.may_publish("own/other"), "{id:?}");
            assert!(!access.may_subscribe("own/+"), "{id:?}");
            assert!(!access.may_subscribe("own/#"), "{id:?}");
        }
    }

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("a*", "abc", true),
            ("a*c", "abc", true),
            ("a*b", "abc", false),
            ("abc", "abc", true),
            ("*", "", true),
            ("a", "ab", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    fn filters() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just("+"), Just("$s")];
        (prop::collection::vec(level, 0..4), any::<bool>()).prop_map(|(levels, is_multi)| {
            let mut levels = levels;
            if is_multi || levels.is_empty() {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    /// Every topic of up to four levels over an alphabet that is larger than that of the filters.
    fn all_topics() -> Vec<String> {
        let mut topics: Vec<String> = vec![];
        let mut last: Vec<String> = ["a", "b", "c", "$s"].map(String::from).to_vec();
        for _ in 0..4 {
            topics.extend(last.iter().cloned());
            last = last.iter().flat_map(|t| ["a", "b", "c", "$s"].map(|l| format!("{t}/{l}"))).collect();
        }
        topics
    }

    proptest! {
        #[test]
        fn covers_and_overlaps_agree_with_all_topics(outer in filters(), inner in filters()) {
            let topics = all_topics();
            let matches = |filter: &str, topic: &str| protocol::topic::matches(filter, topic);
            let is_covered = topics.iter().all(|t| !matches(&inner, t) || matches(&outer, t));
            let does_overlap = topics.iter().any(|t| matches(&inner, t) && matches(&outer, t));
            // `covers` may refuse what is covered only by accident, never allow what is not.
            prop_assert!(!covers(&outer, &inner) || is_covered, "{} {}", outer, inner);
            prop_assert_eq!(overlaps(&outer, &inner), does_overlap, "{} {}", outer, inner);
        }
    }
}
