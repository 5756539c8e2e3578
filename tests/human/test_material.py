def test_x(material):
    print(material)
