//! The park protocol of the mesh under loom: in no interleaving does a shard sleep on a message, or a bell ring twice
//! for one sleep. Runs only with `--cfg loom` (see `.ci/test`).
#![cfg(all(loom, feature = "loom-mesh"))]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use shard::parking::Parking;

/// A lane of messages (their number is enough), a bell, and what the owner's flag says.
#[derive(Default)]
struct Home {
    messages: AtomicUsize,
    bells: AtomicUsize,
    parking: Parking,
}

impl Home {
    fn push(&self) {
        self.messages.fetch_add(1, Ordering::Release);
        if self.parking.wake() {
            self.bells.fetch_add(1, Ordering::Release);
        }
    }

    fn take_all(&self) -> usize {
        self.messages.swap(0, Ordering::Acquire)
    }

    /// What the event loop does when it finds nothing: true if it sleeps now.
    fn try_sleep(&self) -> bool {
        self.parking.try_park(|| self.messages.load(Ordering::Acquire) > 0)
    }
}

/// However the pushes fall, a sleeping owner has been rung if there is something for it.
#[test]
fn no_message_is_slept_on() {
    loom::model(|| {
        let home = Arc::new(Home::default());
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let home = home.clone();
                thread::spawn(move || home.push())
            })
            .collect();
        let mut received = home.take_all();
        let is_asleep = home.try_sleep();
        producers.into_iter().for_each(|producer| producer.join().expect("a producer ends"));
        let bells = home.bells.load(Ordering::Acquire);
        let waiting = home.messages.load(Ordering::Acquire);
        if is_asleep {
            assert!(waiting == 0 || bells > 0, "{waiting} messages wait and nobody rang");
        }
        assert!(bells <= 1, "{bells} bells for one sleep");
        received += home.take_all();
        assert_eq!(received, 2);
    });
}

/// The owner wakes by itself (a timer) while a producer rings: nothing is lost, and it can sleep again.
#[test]
fn a_wake_of_its_own_meets_the_bell() {
    loom::model(|| {
        let home = Arc::new(Home::default());
        let producer = {
            let home = home.clone();
            thread::spawn(move || home.push())
        };
        let mut received = 0;
        if home.try_sleep() {
            home.parking.unpark();
        }
        received += home.take_all();
        let is_asleep = home.try_sleep();
        producer.join().expect("the producer ends");
        let waiting = home.messages.load(Ordering::Acquire);
        if is_asleep && waiting > 0 {
            assert!(home.bells.load(Ordering::Acquire) > 0, "the second sleep misses the message");
        }
        received += home.take_all();
        assert_eq!(received, 1);
    });
}

/// The other direction: a producer that waits for room is rung by the pop that makes it.
#[test]
fn a_full_lane_wakes_its_sender() {
    loom::model(|| {
        let home = Arc::new(Home::default());
        let lane = Arc::new(AtomicUsize::new(1));
        let consumer = {
            let (home, lane) = (home.clone(), lane.clone());
            thread::spawn(move || {
                lane.store(0, Ordering::Release);
                if home.parking.wake() {
                    home.bells.fetch_add(1, Ordering::Release);
                }
            })
        };
        let is_asleep = home.parking.try_park(|| lane.load(Ordering::Acquire) == 0);
        consumer.join().expect("the consumer ends");
        assert!(!is_asleep || home.bells.load(Ordering::Acquire) == 1, "the sender sleeps for good");
    });
}
