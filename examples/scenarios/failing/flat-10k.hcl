# Must fail: nearly all nodes lose power for good, so that the services have no room left.
extends "../flat-10k.hcl" {}

scenario "flat-10k-dark" {}

fault "power" {
  at     = "13m"
  target = "r/d/client"
  share  = 0.95
}
