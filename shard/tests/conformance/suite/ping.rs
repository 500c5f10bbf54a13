//! PINGREQ and PINGRESP (3.12, 3.13).

use super::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![case!(pingreq_is_answered).v5("3.12.4-1").v311("3.12.4-1")]
}

fn pingreq_is_answered(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.write(&[0xC0, 0]);
    client.expect_bytes(&[0xD0, 0]);
    client.write(&[0xC0, 0, 0xC0, 0]);
    client.expect_bytes(&[0xD0, 0, 0xD0, 0]);
    client.expect_silence();
}
