# Must fail: while the WAN is split, a whole region's nodes lose power for three minutes.
extends "../split.hcl" {}

scenario "split-and-dark" {}

fault "power" {
  at     = "11m"
  for    = "3m"
  target = "r-2/d/client"
  share  = 1
}
