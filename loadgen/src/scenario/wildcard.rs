//! Wildcard filters of four shapes over topics of five levels, as fleets have them: everything of a site, one metric
//! of a region, all of one device wherever it is, and one metric of a site.
//!
//! With the defaults (1000 publishers of 4 topics, 1000 subscribers) a message has 9.6 receivers.

use super::setup;
use crate::args::Wildcard;
use crate::plan::{FlowSet, Plan};
use anyhow::Result;

const REGIONS: u32 = 10;
/// In each region.
const SITES: u32 = 10;

/// A filter, or with all parts given a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    region: Option<u32>,
    site: Option<u32>,
    device: Option<u32>,
    metric: Option<u32>,
}

impl Place {
    fn topic(device: u32, metric: u32) -> Place {
        Place {
            region: Some(device % REGIONS),
            site: Some(device / REGIONS % SITES),
            device: Some(device),
            metric: Some(metric),
        }
    }

    /// The filter of a subscriber: the four shapes take turns.
    fn filter(subscriber: u32, devices: u32, metrics: u32) -> Place {
        let at = subscriber / 4;
        let nearest = Place::topic(at % devices, at % metrics);
        match subscriber % 4 {
            0 => Place { device: None, metric: None, ..nearest },
            1 => Place { site: None, device: None, metric: Some(at / REGIONS % metrics), ..nearest },
            2 => Place { region: None, site: None, metric: None, ..nearest },
            _ => Place { device: None, metric: Some(at / (REGIONS * SITES) % metrics), ..nearest },
        }
    }

    fn contains(&self, topic: &Place) -> bool {
        let fits = |filter: Option<u32>, topic: Option<u32>| filter.is_none() || filter == topic;
        fits(self.region, topic.region)
            && fits(self.site, topic.site)
            && fits(self.device, topic.device)
            && fits(self.metric, topic.metric)
    }

    fn text(&self, prefix: &str) -> String {
        if self.device.is_none() && self.metric.is_none() {
            let (region, site) = (level('r', self.region), level('s', self.site));
            return format!("{prefix}/{region}/{site}/#");
        }
        let levels = [('r', self.region), ('s', self.site), ('d', self.device), ('m', self.metric)];
        levels.into_iter().fold(prefix.to_string(), |text, (letter, part)| text + "/" + &level(letter, part))
    }
}

fn level(letter: char, part: Option<u32>) -> String {
    part.map_or("+".into(), |number| format!("{letter}{number}"))
}

pub fn plan(args: &Wildcard) -> Result<Plan> {
    let common = &args.common;
    let mut plan = setup::plan(common, (args.publishers * args.topics) as usize)?;
    let prefix = format!("{}-w", common.prefix);
    let (publisher, subscriber) = (setup::ids(common, "pub"), setup::ids(common, "sub"));
    let mut topics = vec![];
    for device in 0..args.publishers {
        let places: Vec<Place> = (0..args.topics).map(|metric| Place::topic(device, metric)).collect();
        let names: Vec<String> = places.iter().map(|place| place.text(&prefix)).collect();
        let worker = device as usize % plan.worker_count;
        plan.add_publisher(publisher(device), worker, &names, common.publish_qos());
        topics.extend(places);
    }
    for number in 0..args.subscribers {
        let filter = Place::filter(number, args.publishers, args.topics);
        let matching = (0..).zip(&topics).filter(|(_, topic)| filter.contains(topic)).map(|(flow, _)| flow);
        let flows = FlowSet::Sorted(matching.collect());
        let worker = number as usize % plan.worker_count;
        let receiver = plan.add_receiver(flows, common.subscribe_qos(), worker, false);
        plan.add_subscriber(subscriber(number), &filter.text(&prefix).into(), receiver);
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::topic;

    #[test]
    fn numbers_match_as_the_filters_do() {
        for subscriber in 0..100 {
            let filter = Place::filter(subscriber, 50, 3);
            for device in 0..50 {
                for metric in 0..3 {
                    let topic = Place::topic(device, metric);
                    assert_eq!(
                        filter.contains(&topic),
                        topic::matches(&filter.text("x"), &topic.text("x")),
                        "{filter:?} {topic:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_default_has_the_documented_number_of_receivers() {
        let count = (0..1000u32)
            .map(|subscriber| Place::filter(subscriber, 1000, 4))
            .flat_map(|filter| (0..1000).map(move |device| (filter, device)))
            .flat_map(|(filter, device)| (0..4).map(move |metric| (filter, Place::topic(device, metric))))
            .filter(|(filter, topic)| filter.contains(topic))
            .count();
        assert!((9.5..9.7).contains(&(count as f64 / 4000.0)), "{count}");
    }
}
