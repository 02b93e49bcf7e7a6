"""Tables of cases in, tables of results out: columns, intake, tasks, and questions about results."""
