//! HTTP datagrams.

#![allow(dead_code)]

mod capsule;
mod varint;
