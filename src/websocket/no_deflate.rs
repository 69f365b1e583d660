//! Stands in for compression in a build without the feature `deflate`: its types have no values.

use http::{HeaderMap, HeaderValue};

#[derive(Clone, Copy, Debug)]
pub(super) enum Deflate {}

impl Deflate {
    pub(super) fn accept(self, _: &HeaderMap) -> Option<(HeaderValue, Compression)> {
        match self {}
    }

    #[cfg(feature = "client")]
    pub(super) fn offer(self) -> Offer {
        match self {}
    }
}

#[cfg(feature = "client")]
pub(super) enum Offer {}

#[cfg(feature = "client")]
impl Offer {
    pub(super) fn value(&self) -> HeaderValue {
        match *self {}
    }

    pub(super) fn check(self, _: &HeaderMap) -> Result<Option<Compression>, &'static str> {
        match self {}
    }
}

pub(super) struct Compression {
    pub(super) compressor: Option<Box<Compressor>>,
    pub(super) inflater: Box<Inflater>,
}

pub(super) enum Compressor {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings;

impl Compressor {
    pub(super) fn compress(&mut self, _: &[u8]) -> Option<Vec<u8>> {
        match *self {}
    }

    pub(super) fn compress_alone(&self, _: &[u8]) -> Option<Vec<u8>> {
        match *self {}
    }

    pub(super) fn settings(&self) -> Settings {
        match *self {}
    }

    pub(super) fn has_sent(&mut self, _: &[u8]) {
        match *self {}
    }
}

#[expect(dead_code, reason = "no value is created without the feature")]
pub(super) enum Failure {
    Corrupt,
    TooLarge,
}

pub(super) enum Inflater {}

impl Inflater {
    pub(super) fn inflate(&mut self, _: &[u8], _: &mut Vec<u8>, _: usize) -> Result<(), Failure> {
        match *self {}
    }

    pub(super) fn finish(&mut self, _: &mut Vec<u8>, _: usize) -> Result<(), Failure> {
        match *self {}
    }
}
