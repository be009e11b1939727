"""What is checked before an order: one table of rules, limits, sizes, prices, the budget of writes. Pure."""
