//! Rate limits as token buckets in the form of a virtual clock (GCRA): one time stamp for each rule, integers only.

use crate::Time;

/// One rule: `limit` takes in any `window_s` seconds, which may come in one burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    limit: u64,
    window_s: u64,
}

/// Rules in TBMQ's form `1000:1,50000:60` (limit:seconds); all of them have to allow a take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    rules: Vec<Rule>,
}

/// A rate limit that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no rate limit: expected limit:seconds pairs such as `1000:1,50000:60`, both above 0")]
pub struct RateLimitError(String);

impl RateLimit {
    pub fn parse(text: &str) -> Result<RateLimit, RateLimitError> {
        let error = || RateLimitError(text.to_owned());
        let rules = text.split(',').map(|pair| {
            let (limit, window) = pair.trim().split_once(':')?;
            let rule = Rule { limit: limit.trim().parse().ok()?, window_s: window.trim().parse().ok()? };
            (rule.limit > 0 && rule.window_s > 0 && rule.window_s <= 86_400 * 366).then_some(rule)
        });
        let rules: Option<Vec<Rule>> = rules.collect();
        Ok(RateLimit { rules: rules.ok_or_else(error)? })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow,
    RefuseUntil(Time),
}

/// The state of one limited client.
#[derive(Clone, Debug)]
pub(crate) struct RateBucket {
    rules: Box<[RuleState]>,
}

#[derive(Clone, Copy, Debug)]
struct RuleState {
    /// Nanoseconds that one take costs, and that may be spent ahead.
    cost_ns: u64,
    burst_ns: u64,
    /// When the bucket is full again, in nanoseconds of the shard's clock.
    full_at_ns: u64,
}

const NS_PER_MS: u64 = 1_000_000;

impl RateBucket {
    pub fn new(limit: &RateLimit, now: Time) -> RateBucket {
        let state = |rule: &Rule| {
            let window_ns = rule.window_s * 1_000 * NS_PER_MS;
            let cost_ns = (window_ns / rule.limit).max(1);
            RuleState { cost_ns, burst_ns: cost_ns * rule.limit, full_at_ns: now * NS_PER_MS }
        };
        RateBucket { rules: limit.rules.iter().map(state).collect() }
    }

    /// Takes `count` from every rule, or from none.
    #[inline]
    pub fn try_take(&mut self, now: Time, count: u64) -> Verdict {
        let now_ns = now * NS_PER_MS;
        for rule in &self.rules {
            let after = rule.full_at_ns.max(now_ns) + rule.cost_ns * count;
            if after > now_ns + rule.burst_ns {
                return Verdict::RefuseUntil((after - rule.burst_ns).div_ceil(NS_PER_MS));
            }
        }
        for rule in &mut self.rules {
            rule.full_at_ns = rule.full_at_ns.max(now_ns) + rule.cost_ns * count;
        }
        Verdict::Allow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_form_of_tbmq() {
        assert!(RateLimit::parse("1000:1,50000:60").is_ok_and(|limit| limit.rules.len() == 2));
        for bad in ["", "10", "10:0", "0:1", "x:1", "1:1,", "-1:1"] {
            assert!(RateLimit::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_rate_is_held_within_two_percent() {
        let limit = RateLimit::parse("1000:1").unwrap();
        let mut bucket = RateBucket::new(&limit, 5);
        let mut allowed = 0u64;
        // 3,000 a second offered for a minute.
        for now in 5..60_005 {
            for _ in 0..3 {
                allowed += (bucket.try_take(now, 1) == Verdict::Allow) as u64;
            }
        }
        let expected = 60_000 + 1000;
        assert!(allowed.abs_diff(expected) * 100 <= expected * 2, "{allowed}");
    }

    #[test]
    fn all_rules_have_to_allow_and_the_refusal_names_the_time() {
        let limit = RateLimit::parse("10:1,15:60").unwrap();
        let mut bucket = RateBucket::new(&limit, 0);
        for _ in 0..10 {
            assert_eq!(bucket.try_take(0, 1), Verdict::Allow);
        }
        assert_eq!(bucket.try_take(0, 1), Verdict::RefuseUntil(100));
        for i in 0..5 {
            assert_eq!(bucket.try_take(1000 + i, 1), Verdict::Allow);
        }
        let Verdict::RefuseUntil(at) = bucket.try_take(2000, 1) else { panic!("the minute is used up") };
        assert_eq!(bucket.try_take(at, 1), Verdict::Allow);
    }
}
