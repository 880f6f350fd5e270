locals {
  users = ["ann", "bob"]
  limits = {
    soft = 10
    hard = 20
  }
}
job "templates" {
  group "g" {
    task "t" {
      driver = "raw_exec"
      config {
        command = "true"
      }
      template {
        destination = "local/a"
        data        = <<-END
          users:
          %{ for u in local.users ~}
          - ${u}
          %{ endfor ~}
          %{ if length(local.users) > 1 }many%{ else }one%{ endif }
            indented {{ key "a/b" }}
          END
      }
      template {
        destination = "local/b"
        data = <<_EOF   
a=${NOMAD_ALLOC_ID} b=${attr.cpu.arch} c=$${HOME} d=%%{x} $HOME ${meta.rack}
  tab	and \n stay
_EOF
      }
      template {
        destination = "local/c"
        data        = join("", [for k, v in local.limits : "${k}=${format("%03d", v)}\n"])
      }
      template {
        destination = "local/d"
        data        = "${~ local.limits.soft ~}"
      }
      template {
        destination = "local/e"
        data        = "a\tb \"q\" \u00e9 \\ ${"${upper("x")}"}"
      }
    }
  }
}
