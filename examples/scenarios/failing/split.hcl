# Must fail: while the WAN is split, a whole region's nodes lose power for half an hour.
extends "../split.hcl" {}

scenario "split-and-dark" {}

fault "power" {
  at     = "20m"
  for    = "30m"
  target = "r-2/d/client"
  share  = 1
}
