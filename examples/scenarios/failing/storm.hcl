# Must fail: in the middle of the storm a region loses most of its servers and of its nodes for
# half an hour, so that nobody there can answer for what was lost.
extends "../storm.hcl" {}

scenario "storm-without-quorum" {}

fault "power" {
  at     = "30m"
  for    = "30m"
  target = "r-1/*/server"
  count  = 8
}
fault "power" {
  at     = "31m"
  for    = "30m"
  target = "r-1/*/client"
  share  = 0.9
}
