# Must fail: once the schema has risen, an operator puts one server back to the old version. It
# can't read the log any more, and stops rather than diverge.
extends "../upgrade.hcl" {}

scenario "upgrade-and-back" {}

fault "upgrade" {
  at     = "30m"
  target = "r-2-d-1-server-3"
  down   = "5s"
  schema = 1
}
