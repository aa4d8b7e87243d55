"""The names of the formats of lists, apart from what reads them: every run of the command offers them."""

FORMATS = ("json", "jsonl", "urls", "aria2", "sums", "csv", "tsv", "gdc", "ena", "metalink", "bagit")
"""What `read_list` reads. "urls" and "aria2" are one: a list of URLs is an aria2 input file without options. "gdc" and
"ena" are tables whose columns are known."""
