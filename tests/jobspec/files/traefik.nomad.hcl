# An edge router on every node, with its dashboard.
job "traefik" {
  region      = "global"
  datacenters = ["dc1", "dc2"]
  type        = "system"
  priority    = 80

  group "traefik" {
    network {
      mode = "host"
      port "http" {
        static = 80
      }
      port "https" { static = 443 }
      port "api" {
        static       = 8081
        host_network = "private"
      }
    }

    service {
      name     = "traefik"
      provider = "nomad"
      port     = "http"
      tags     = ["edge", "urlprefix-/"]

      check {
        name     = "alive"
        type     = "tcp"
        port     = "http"
        interval = "10s"
        timeout  = "2s"
      }
    }

    task "traefik" {
      driver = "docker"

      config {
        image        = "traefik:v3.1"
        network_mode = "host"

        volumes = [
          "local/traefik.toml:/etc/traefik/traefik.toml",
        ]
      }

      template {
        data = <<EOF
[entryPoints]
    [entryPoints.http]
    address = ":{{ env "NOMAD_PORT_http" }}"
{{ range nomadServices }}
# {{ .Name }}
{{ end }}
EOF

        destination = "local/traefik.toml"
      }

      resources {
        cpu    = 100
        memory = 128
      }
    }
  }
}
