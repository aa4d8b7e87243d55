"""What all questions share: contenders, measuring, turns, results, tables, charts."""
