# Must fail: a fourth more is asked for than there is room for, and a goal still says "all".
extends "../c2m.hcl" {}

scenario "c2m-too-much" {}

job "more" {
  file   = "../jobs/instance.nomad.hcl"
  at     = "60s"
  region = "r-1"
  count  = 1000000
}
goal "running" {
  job = "more"
}
