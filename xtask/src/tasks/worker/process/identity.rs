//! Who a process group is, and whose.

use super::platform::Process;

/// What a group is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The worker under test.
    Worker,
    /// The mock hive.
    Hive,
    /// A tool of ours, such as cargo. What it leaves running (a compiler cache, say) is its own.
    Tool,
}

/// Finds the members of a group again, also in another process and after its leader's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupId {
    /// The leader's number, which is the group's.
    pub number: u32,
    /// The session that the group is in.
    pub session: u32,
    /// When the leader was started.
    pub started: u64,
}

impl Role {
    /// "the worker".
    pub fn name(self) -> &'static str {
        match self {
            Role::Worker => "the worker",
            Role::Hive => "the mock hive",
            Role::Tool => "a tool",
        }
    }
}

impl GroupId {
    /// The group's members in this process table; none where the number belongs to another group
    /// by now.
    pub fn members<'a>(&self, table: &'a [Process]) -> Vec<&'a Process> {
        let leader = table.iter().find(|process| process.pid == self.number);
        if leader.is_some_and(|leader| leader.started != self.started) {
            return Vec::new();
        }
        // Without its leader a group is known by its session, which can't be left without leaving
        // the group, and by being younger than its leader.
        let ours = |process: &&Process| {
            process.group == self.number
                && process.session == self.session
                && process.started >= self.started
        };
        table.iter().filter(ours).collect()
    }
}
