//! The order of the positions, held against a model that keeps each event apart.

use super::*;
use proptest::prelude::*;

fn lsn(bytes: u64) -> Lsn {
    Lsn::new(bytes)
}

#[test]
fn only_a_contiguous_prefix_of_settled_transactions_is_confirmed() {
    let mut progress = Progress::new(lsn(10));
    let (mut first, mut second) = (Pending::default(), Pending::default());
    progress.begin().unwrap();
    progress.event(&mut first).unwrap();
    progress.commit(lsn(20)).unwrap();
    progress.begin().unwrap();
    progress.event(&mut second).unwrap();
    progress.commit(lsn(30)).unwrap();
    let second = progress.published(second);
    progress.settled(second);
    assert_eq!(progress.confirm(), lsn(10));
    let first = progress.published(first);
    assert_eq!(progress.confirm(), lsn(10), "published is not settled");
    progress.settled(first);
    assert_eq!(progress.confirm(), lsn(30));
}

#[test]
fn a_transaction_is_not_confirmed_before_its_commit_arrived() {
    let mut progress = Progress::new(lsn(10));
    let mut pending = Pending::default();
    progress.begin().unwrap();
    progress.event(&mut pending).unwrap();
    let published = progress.published(pending);
    progress.settled(published);
    progress.keepalive(lsn(15));
    assert_eq!(progress.confirm(), lsn(10));
    progress.commit(lsn(20)).unwrap();
    assert_eq!(progress.confirm(), lsn(20));
}

#[test]
fn a_keepalive_never_moves_past_anything_outstanding() {
    let mut progress = Progress::new(lsn(10));
    progress.keepalive(lsn(15));
    assert_eq!(progress.confirm(), lsn(15));
    let mut pending = Pending::default();
    progress.begin().unwrap();
    progress.event(&mut pending).unwrap();
    progress.commit(lsn(20)).unwrap();
    progress.keepalive(lsn(50));
    assert_eq!(progress.confirm(), lsn(15));
    let published = progress.published(pending);
    assert_eq!(progress.confirm(), lsn(15));
    progress.settled(published);
    assert_eq!(progress.confirm(), lsn(50));
}

#[test]
fn an_event_less_transaction_waits_for_the_one_before_it() {
    let mut progress = Progress::new(lsn(10));
    let mut pending = Pending::default();
    progress.begin().unwrap();
    progress.event(&mut pending).unwrap();
    progress.commit(lsn(20)).unwrap();
    let published = progress.published(pending);
    progress.begin().unwrap();
    progress.commit(lsn(30)).unwrap();
    assert_eq!(progress.confirm(), lsn(10));
    progress.settled(published);
    assert_eq!(progress.confirm(), lsn(30));
}

#[test]
fn what_is_taken_out_of_a_batch_waits_by_itself() {
    let mut progress = Progress::new(lsn(10));
    let mut batch = Pending::default();
    for (end, events) in [(20, 2), (30, 1), (40, 2)] {
        progress.begin().unwrap();
        (0..events).for_each(|_| progress.event(&mut batch).unwrap());
        progress.commit(lsn(end)).unwrap();
    }
    let taken = batch.take(|place| [1, 2, 4].contains(&place));
    let rest = progress.published(batch);
    progress.settled(rest);
    assert_eq!(progress.confirm(), lsn(10), "an event of the first is elsewhere");
    let taken = progress.published(taken);
    progress.settled(taken);
    assert_eq!(progress.confirm(), lsn(40));
}

#[test]
fn messages_out_of_order_are_errors() {
    let mut progress = Progress::new(lsn(10));
    assert!(progress.commit(lsn(20)).is_err());
    assert!(progress.event(&mut Pending::default()).is_err());
    progress.begin().unwrap();
    assert!(progress.begin().is_err());
}

/// What may happen to a line, and a model of what may be confirmed then.
#[derive(Clone, Debug)]
enum Step {
    Transaction {
        events: u8,
        batches: u8,
    },
    Keepalive,
    Publish(usize),
    /// Two receipts become one.
    Gather(usize),
    Settle(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..5, 1u8..4).prop_map(|(events, batches)| Step::Transaction { events, batches }),
        Just(Step::Keepalive),
        any::<usize>().prop_map(Step::Publish),
        any::<usize>().prop_map(Step::Gather),
        any::<usize>().prop_map(Step::Settle),
    ]
}

proptest! {
    /// Batches span transactions and are answered in any order; the model keeps each event
    /// apart.
    #[test]
    fn nothing_is_confirmed_that_is_not_settled(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut progress = Progress::new(lsn(1));
        let mut clock = 1;
        let mut open: Vec<(Pending, Vec<Lsn>)> = Vec::new();
        let mut published: Vec<(Published, Vec<Lsn>)> = Vec::new();
        for step in steps {
            match step {
                Step::Transaction { events, batches } => {
                    clock += 10;
                    progress.begin().unwrap();
                    for event in 0..events {
                        let batch = usize::from(event % batches);
                        while open.len() <= batch {
                            open.push((Pending::default(), Vec::new()));
                        }
                        progress.event(&mut open[batch].0).unwrap();
                        open[batch].1.push(lsn(clock));
                    }
                    progress.commit(lsn(clock)).unwrap();
                }
                Step::Keepalive => {
                    clock += 10;
                    progress.keepalive(lsn(clock));
                }
                Step::Publish(which) if !open.is_empty() => {
                    let (pending, ends) = open.remove(which % open.len());
                    published.push((progress.published(pending), ends));
                }
                Step::Gather(which) if published.len() > 1 => {
                    let (later, ends) = published.remove(which % published.len());
                    if let Some((receipt, all)) = published.first_mut() {
                        receipt.append(later);
                        all.extend(ends);
                    }
                }
                Step::Settle(which) if !published.is_empty() => {
                    let (receipt, _) = published.remove(which % published.len());
                    progress.settled(receipt);
                }
                Step::Publish(_) | Step::Gather(_) | Step::Settle(_) => {}
            }
            let confirmed = progress.confirm();
            let oldest = |left: &mut dyn Iterator<Item = &Lsn>| left.min().copied();
            let waiting = published.iter().flat_map(|(_, ends)| ends);
            let unsettled =
                oldest(&mut open.iter().flat_map(|(_, ends)| ends).chain(waiting));
            if let Some(oldest) = unsettled {
                prop_assert!(confirmed < oldest);
            } else {
                prop_assert_eq!(confirmed, lsn(clock));
            }
            if let Some(oldest) = oldest(&mut open.iter().flat_map(|(_, e)| e)) {
                prop_assert!(progress.positions().published < oldest);
            }
        }
    }
}
