//! A text that a client may send in any place, and what a log must not show of it.

/// Lines as both formats have them, then what clears a terminal and names its window, and other ends of lines.
pub const FORGERY: &str = "x\r\n2026-01-01T00:00:00.000000Z ERROR shardmq: forged\r\n\
    {\"timestamp\":\"2026-01-01T00:00:00Z\",\"level\":\"ERROR\",\"message\":\"forged\"}\n\
    \u{1b}[2J\u{1b}]0;title\u{7}\u{85}\u{2028}\u{9b}31my";

/// No line of the log is the client's, and no control character of it came through.
pub fn assert_no_forgery(log: &str) {
    assert!(!log.is_empty());
    for line in log.lines() {
        let is_forged = ["2026-01-01T00:00:00", "{\"timestamp\":\"2026-01-01T00:00:00Z\""]
            .iter()
            .any(|start| line.starts_with(start));
        assert!(!is_forged, "forged: {line}");
        let control = line.chars().find(|c| (c.is_control() && *c != '\t') || *c == '\u{2028}');
        assert!(control.is_none(), "{control:?} came through: {line:?}");
    }
}
