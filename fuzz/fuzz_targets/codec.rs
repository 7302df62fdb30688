//! Messages between ranks, and the outputs that come with them.

#![no_main]

use std::sync::Arc;

use dagmar::runtime::envelope::Envelope;
use dagmar::transport::codec;
use dagmar::transport::endpoint::{Body, Parcel};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    if kind % 2 == 0 {
        read_message(bytes);
    } else {
        read_output(bytes);
    }
});

fn read_message(bytes: &[u8]) {
    let parcel = Parcel { head: bytes.to_vec(), body: Body::default() };
    let Ok(message) = Envelope::read(&parcel) else { return };
    let written = codec::encode(&message);
    let again = Envelope::read(&Parcel { head: written.clone(), body: Body::default() });
    assert_eq!(codec::encode(&again.expect("what was written is read")), written);
}

fn read_output(bytes: &[u8]) {
    let Ok(output) = Envelope::output_of(&Arc::new(bytes.to_vec())) else { return };
    Envelope::output_in(bytes).expect("it is the same output");
    let written = Envelope::body_of(&output);
    let again = Envelope::output_in(&written).expect("what was written is read");
    assert_eq!(Envelope::body_of(&again), written);
}
