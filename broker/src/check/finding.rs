//! One thing that was looked at.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pass,
    /// Works, but measurements or tails suffer.
    Warn,
    /// The broker cannot do what it is asked to.
    Fail,
    /// The machine does not tell.
    Unknown,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            State::Pass => "pass",
            State::Warn => "WARN",
            State::Fail => "FAIL",
            State::Unknown => "?",
        }
    }

    /// `otherwise` if it is not well.
    pub fn pass_if(is_well: bool, otherwise: State) -> State {
        if is_well { State::Pass } else { otherwise }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub id: &'static str,
    pub state: State,
    pub current: String,
    pub wanted: String,
    pub why: &'static str,
    pub fix: String,
    /// Undoes the fix.
    pub revert: Option<String>,
}

impl Finding {
    pub fn new(
        id: &'static str,
        current: impl Into<String>,
        wanted: impl Into<String>,
        why: &'static str,
        fix: impl Into<String>,
    ) -> Finding {
        let (current, wanted, fix) = (current.into(), wanted.into(), fix.into());
        Finding { id, state: State::Unknown, current, wanted, why, fix, revert: None }
    }

    pub fn judged(self, state: State) -> Finding {
        Finding { state, ..self }
    }

    /// Something that the machine does not tell.
    pub fn unknown(id: &'static str, why: &'static str) -> Finding {
        Finding::new(id, "not told by the machine", "", why, "look at it by hand")
    }
}

/// A number of a kernel setting that must not be below `wanted`.
pub fn at_least(
    system: &super::System,
    id: &'static str,
    setting: &str,
    wanted: u64,
    otherwise: State,
    why: &'static str,
) -> Finding {
    let Some(current) = system.setting_number(setting) else { return Finding::unknown(id, why) };
    let fix = format!("sysctl -w {setting}={wanted}, and a file in /etc/sysctl.d to keep it");
    let mut finding =
        Finding::new(id, format!("{setting} = {current}"), format!("at least {wanted}"), why, fix);
    finding.revert = Some(format!("sysctl -w {setting}={current}"));
    finding.judged(State::pass_if(current >= wanted, otherwise))
}
