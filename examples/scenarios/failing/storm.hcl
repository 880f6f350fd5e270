# Must fail: in the storm a region loses most of its servers for eight minutes, and most of its nodes
# for good, so that what ran there has no room any more.
extends "../storm.hcl" {}

scenario "storm-without-quorum" {}

fault "power" {
  at     = "12m"
  for    = "8m"
  target = "r-1/*/server"
  count  = 8
}
fault "power" {
  at     = "13m"
  target = "r-1/*/client"
  share  = 0.9
}
