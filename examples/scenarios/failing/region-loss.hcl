# Must fail: the region does not come back, and still all of it is expected to run.
extends "../region-loss.hcl" {}

scenario "region-loss-for-good" {}

fault "datacenter-loss" {
  at     = "65m"
  target = "r-5"
}
fault "datacenter-loss" {
  at     = "71m"
  target = "r-5"
}
