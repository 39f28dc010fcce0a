//! What is remembered of each relation: the plan that its Relation message led to.
//!
//! pgoutput describes a relation before its first row and again after each change, and says nothing
//! when a table goes: so a description replaces the one before it, and their number is bounded.

use super::reader::{DecodeError, Fault};

/// Tables remembered; a partitioned outbox published by its root counts as one.
const RELATIONS_MAX: usize = 16_384;

/// Plans by the relation's oid. Most publications hold one table.
#[derive(Clone, Debug)]
pub struct RelationCache<P> {
    plans: Vec<(u32, P)>,
}

impl<P> Default for RelationCache<P> {
    fn default() -> Self {
        Self { plans: Vec::new() }
    }
}

impl<P> RelationCache<P> {
    /// Remembers `plan` for `oid`, in place of an earlier one.
    pub fn insert(&mut self, oid: u32, plan: P) -> Result<(), DecodeError> {
        match self.plans.binary_search_by_key(&oid, |(known, _)| *known) {
            Ok(index) => {
                if let Some(known) = self.plans.get_mut(index) {
                    known.1 = plan;
                }
            }
            Err(_) if self.plans.len() >= RELATIONS_MAX => {
                return Err(fault("Relation", Fault::TooMany(RELATIONS_MAX)));
            }
            Err(index) => self.plans.insert(index, (oid, plan)),
        }
        Ok(())
    }

    /// The plan for `oid`; an error when no Relation message has described it.
    pub fn get(&self, oid: u32) -> Result<&P, DecodeError> {
        self.plans
            .binary_search_by_key(&oid, |(known, _)| *known)
            .ok()
            .and_then(|index| self.plans.get(index))
            .map(|(_, plan)| plan)
            .ok_or_else(|| fault("Insert", Fault::Unannounced(oid)))
    }
}

fn fault(message: &'static str, fault: Fault) -> DecodeError {
    DecodeError { message, reading: "relation oid", offset: 1, fault }
}
