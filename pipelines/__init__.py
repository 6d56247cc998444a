"""Recipe -> plan -> run: everything that reads, writes, caches and schedules."""
