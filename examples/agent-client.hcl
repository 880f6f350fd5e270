# A node that runs work. raw_exec is off unless it is enabled here.
#
#   serai agent -config examples/agent-client.hcl
region     = "eu"
datacenter = "eu-west"
data_dir   = "/var/lib/serai"

client {
  enabled    = true
  servers    = ["10.1.0.10:4647", "10.1.0.11:4647", "10.1.0.12:4647"]
  node_class = "general"

  meta {
    rack = "r12"
    ssd  = true
  }

  reserved {
    cpu            = 200
    memory         = 512
    reserved_ports = "22,80,8500-8600"
  }
}

plugin "raw_exec" {
  config {
    enabled = true
  }
}
