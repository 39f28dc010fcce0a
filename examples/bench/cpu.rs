//! Processor time of a process, to the nanosecond.
//!
//! In: a process id. Out: what all its threads have used, user and system. From schedstat, whose
//! sum over the threads is exact; where the kernel was built without it, from the ticks of stat.
//! And of the whole machine, in ticks: what everybody together has used.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

/// USER_HZ: what Linux calls a tick in every file it shows to programs.
const TICK: Duration = Duration::from_millis(10);

/// What the process has used so far. A thread that has ended is forgotten: the relay, Redis and a
/// walsender do their work in threads that live as long as they do.
pub fn used(pid: u32) -> Result<Duration, Box<dyn Error>> {
    let mut all = Duration::ZERO;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        all += of_task(&task?.path())?;
    }
    Ok(all)
}

/// What all cores have worked so far, for whomever; what a host took from us counts as work.
pub fn used_by_all() -> Result<Duration, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let all = text.lines().next().unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    let ticks: Vec<u64> =
        all.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    let work = ticks.iter().enumerate().filter(|(place, _)| !matches!(place, 3 | 4));
    let millis = work.map(|(_, ticks)| 10 * ticks).sum();
    Ok(Duration::from_millis(millis))
}

fn of_task(task: &Path) -> Result<Duration, Box<dyn Error>> {
    if let Ok(text) = std::fs::read_to_string(task.join("schedstat")) {
        let on_processor = text.split(' ').next().unwrap_or_default();
        return Ok(Duration::from_nanos(on_processor.parse()?));
    }
    let text = std::fs::read_to_string(task.join("stat"))?;
    // The name stands in parentheses and may hold spaces: count from behind it.
    let behind = text.rsplit(')').next().unwrap_or_default();
    let ticks = behind.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    Ok(TICK * ticks.sum::<Result<u32, _>>()?)
}
