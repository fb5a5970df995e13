"""What the operating system and the processes of a service share: counters, tables, cores, memory."""
