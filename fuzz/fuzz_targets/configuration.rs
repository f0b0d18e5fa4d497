#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| replyio::fuzzing::configuration(data));
