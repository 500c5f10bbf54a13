//! Differences that are choices: each with its name in `docs/mosquitto-differences.md`.

/// What came in one step, at shardmq and at mosquitto.
type Sides = [Vec<String>; 2];

/// A choice: takes it out of both sides where it shows.
struct Choice {
    name: &'static str,
    take_out: fn(&mut Sides),
}

const CHOICES: &[Choice] = &[
    Choice {
        name: "nobody-subscribes-is-told",
        take_out: |sides| {
            for side in sides {
                let is_meant = |event: &str| event.starts_with("PUBREC") || event.starts_with("PUBACK");
                replace(side, is_meant, "NoMatchingSubscribers", "Success");
            }
        },
    },
    Choice {
        name: "takeover-is-told",
        take_out: |sides| sides[0].retain(|event| event != "old connection: DISCONNECT SessionTakenOver"),
    },
    Choice {
        name: "unknown-identifiers-are-told",
        take_out: |sides| {
            let is_meant = |event: &str| {
                event == "PUBREL PacketIdentifierNotFound" || event.starts_with("PUBCOMP 60000")
            };
            replace(&mut sides[0], is_meant, "PacketIdentifierNotFound", "Success");
        },
    },
];

fn replace(events: &mut [String], is_meant: impl Fn(&str) -> bool, from: &str, to: &str) {
    for event in events.iter_mut().filter(|event| is_meant(event)) {
        *event = event.replace(from, to);
    }
}

/// The names of the choices that explain how these events differ, none if they do not; None: nothing explains it.
pub fn explain(ours: &[String], theirs: &[String]) -> Option<Vec<&'static str>> {
    let mut sides = [ours.to_vec(), theirs.to_vec()];
    let mut names = vec![];
    for choice in CHOICES {
        if sides[0] == sides[1] {
            break;
        }
        let before = sides.clone();
        (choice.take_out)(&mut sides);
        sides.iter_mut().for_each(|side| side.sort());
        if sides != before {
            names.push(choice.name);
        }
    }
    (sides[0] == sides[1]).then_some(names)
}
