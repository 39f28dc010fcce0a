//! The settings that are about schemas: from a directory to what events are held against.
//!
//! In: `schema_dir` and its neighbours. Out: a [`Contract`], or what is wrong with which file. It
//! must stay true that nothing is read where `schema_validation` is off.

use std::sync::Arc;

use super::settings::Settings;
use super::words::SchemaValidation;
use crate::contract::{Breach, Contract, Unknown};
use crate::error::{Error, Result};

impl Settings {
    /// With the schemas read and compiled, where events are held against them.
    pub fn with_contract(mut self) -> Result<Self> {
        if self.schema_validation != SchemaValidation::Off {
            self.contract = Some(Arc::new(self.read_contract()?));
        }
        Ok(self)
    }

    /// The schemas of `schema_dir`, also where nothing is held against them yet.
    pub fn read_contract(&self) -> Result<Contract> {
        let Some(dir) = &self.schema_dir else {
            return Err(Error::usage("schema_dir is not set")
                .hint("RELAY_SCHEMA_DIR, or --set schema_dir=PATH, says where the schemas are"));
        };
        let breach = match self.schema_validation {
            SchemaValidation::Off | SchemaValidation::Warn => Breach::Told,
            SchemaValidation::Reject => Breach::Refused,
        };
        let unknown = if self.schema_strict { Unknown::Breaks } else { Unknown::Passes };
        Contract::read(dir, breach, unknown)
    }
}
