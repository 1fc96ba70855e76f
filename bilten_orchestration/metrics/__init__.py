"""The daily metrics: dbt runs by day, gates, swaps, dirty days, restatements."""
