//! The scripts that Redis runs.

use ::redis::Script;

pub(super) struct Scripts {
    pub(super) open: Script,
    pub(super) append: Script,
    pub(super) claim: Script,
    pub(super) release: Script,
    pub(super) beat: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            open: Script::new(include_str!("scripts/open.lua")),
            append: Script::new(include_str!("scripts/append.lua")),
            claim: Script::new(include_str!("scripts/claim.lua")),
            release: Script::new(include_str!("scripts/release.lua")),
            beat: Script::new(include_str!("scripts/beat.lua")),
        }
    }
}
