# Must fail: the region does not stay, and still all of it is expected to run.
extends "../region-loss.hcl" {}

scenario "region-loss-for-good" {}

variable "minutes" {
  type    = number
  default = 60
}
fault "datacenter-loss" { # again, a minute after it came back
  at     = "${11 + var.minutes}m"
  target = "r-5"
}
