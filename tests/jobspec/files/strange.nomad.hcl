/* A file as three editors left it. */
// slashes
# hashes
variable "größe" { default = 2 }
locals { β = var.größe }

job strange { # a label needs no quotes
  meta { a="1" }
  meta {
    b = <<-_X
	tab
	  more
	_X
    c = !!true
    d = "${~ local.β ~}"
    e = "$${x} %%{y} $ % $$ %%"
    f = (
      1 +
      2
    )
    g = max(1, 2,
      3,
    )
    h = { for k in ["x"] : k => { in = 1, for = 2 } }.x.for
    i = <<EOF
EOF
    j = upper(<<EOF
heredoc in a call
EOF
    )
  }
  group "g" {
    constraint {
      attribute = "${attr.kernel.name}" 
      value = "linux"
    }
    task t { # words may be labels
      driver = "docker"
      config {
        image = "x"
        args = ["a",
          "b",
        ]
        nested = { a = 1, "b c" : 2
          d = 3 }
      }
    }
  }
}
