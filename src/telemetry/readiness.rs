//! What /readyz says, and why.
//!
//! In: the state of each line, and its heartbeat. Out: a word when somebody may be content, else
//! one line with the reason. It must stay true that a relay which says that it streams, and through
//! which nothing comes, is not ready, and that this is decided from memory.

use std::time::Instant;

use super::heartbeat::Missed;
use super::state::State;
use super::status::Status;

/// Of an error in a reason; the rest is in the log.
const ERROR_CHARS_MAX: usize = 300;

impl Status {
    /// The word for /readyz; where that is to say no, the reason in one line.
    pub fn readiness(&self) -> Result<String, String> {
        if self.lines().is_empty() {
            return self.own_readiness(self.recent_rate());
        }
        // Counted for all together.
        let rate = self.recent_rate();
        let mut reasons = self.lines().iter().filter_map(|line| {
            let number = line.shard.map_or(0, |shard| shard.number);
            Some(format!("shard {number}: {}", line.own_readiness(rate).err()?))
        });
        match (reasons.next(), reasons.count()) {
            (None, _) => Ok(self.state().name().to_owned()),
            (Some(reason), 0) => Err(reason),
            (Some(reason), more) => Err(format!("{reason}; and {more} more are not ready")),
        }
    }

    fn own_readiness(&self, rate: f64) -> Result<String, String> {
        let said = self.says();
        let name = said.state.name();
        let because = |what: &str| match &said.last_error {
            Some(error) => format!("{name}: {}", one_line(error.text())),
            None => format!("{name}: {what}"),
        };
        match said.state {
            State::Standby => Ok(name.to_owned()),
            State::Streaming | State::Polling => match self.heartbeat.missed(Instant::now()) {
                Some(missed) => Err(describe(name, &missed, rate)),
                None => Ok(match self.heartbeat.obstacle() {
                    Some(why) => format!("{name} (without heartbeats: {})", one_line(&why)),
                    None => name.to_owned(),
                }),
            },
            State::Connecting => Err(because("on its way to the servers")),
            State::Stopped => Err(because("somebody must mend what the log says")),
            State::Holding => Err(because("Redis takes no writes")),
            State::Silent => Err(format!("{name}: PostgreSQL does not answer in the stream")),
            State::Draining => Err(format!("{name}: on its way out")),
            State::Snapshot => Err(match said.backlog {
                Some(backlog) => format!(
                    "{name}: {} of {} rows from before the slot are published; what is committed \
                     now comes after them",
                    backlog.done, backlog.total
                ),
                None => format!("{name}: rows from before the slot are published first"),
            }),
        }
    }
}

fn describe(name: &str, missed: &Missed, rate: f64) -> String {
    let Missed { age, waits_for, is_on_its_way } = missed;
    let seconds = age.as_secs();
    let moves = match is_on_its_way {
        true if rate >= 1.0 => format!("; it catches up, {rate:.0} events/s of late"),
        true => "; nothing moves".to_owned(),
        false => String::new(),
    };
    format!("{name}, but no heartbeat has come back for {seconds} s: {waits_for}{moves}")
}

/// What a server or a library says may have more than one.
fn one_line(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(plain).take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Shard;
    use crate::error::Error;

    #[test]
    fn each_state_is_ready_or_says_why_in_one_line() {
        let status = Status::default();
        for state in State::ALL {
            status.enter(state);
            let readiness = status.readiness();
            assert_eq!(readiness.is_ok(), state.is_ready(), "{readiness:?}");
            let text = readiness.unwrap_or_else(|reason| reason);
            assert!(text.starts_with(state.name()), "{text}");
        }
        status.failed(&Error::transient("two\nlines"));
        status.enter(State::Connecting);
        assert_eq!(status.readiness(), Err("connecting: two lines".to_owned()));
        status.enter(State::Streaming);
        status.heartbeat.impossible("may not");
        let word = "streaming (without heartbeats: may not)";
        assert_eq!(status.readiness(), Ok(word.to_owned()));
    }

    #[test]
    fn of_several_lines_each_must_be_ready_and_the_first_that_is_not_is_named() {
        let whole = Status::default();
        let lines = whole.split(&[1, 2, 3].map(|number| Shard { number, of: 3 }));
        lines[0].enter(State::Streaming);
        lines[2].enter(State::Draining);
        let reason = whole.readiness().unwrap_err();
        assert!(reason.starts_with("shard 2: connecting"), "{reason}");
        assert!(reason.ends_with("and 1 more are not ready"), "{reason}");
        for line in &lines {
            line.enter(State::Streaming);
        }
        assert_eq!(whole.readiness(), Ok("streaming".to_owned()));
    }
}
